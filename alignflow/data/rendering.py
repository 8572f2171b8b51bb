"""The one place that turns text into token ids: for training, sampling and scoring alike.

A conversation is rendered by the chat template with placeholders where the texts go; the template's own pieces are
encoded with their control tokens, the texts without: what a user writes can never become a control token.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alignflow.data.errors import ModelError

Messages = Sequence[Mapping[str, str]]

TEMPLATES: Mapping[str, str] = {
    "instruction": (
        "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] + '\n\n' }}"
        "{% elif message['role'] == 'user' %}{{ '### Instruction:\n' + message['content'] + '\n\n' }}"
        "{% else %}{{ '### Response:\n' + message['content'] + eos_token + '\n\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '### Response:\n' }}{% endif %}"
    ),
    "plain": (
        "{{ bos_token }}{% for message in messages %}{{ message['content'] }}"
        "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    ),
    "chatml": (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "turns": (
        "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    ),
}
"""Chat templates for tokenizers that bring none. `turns` and `chatml` need their control tokens in the vocabulary."""

_OPEN, _CLOSE = "\ue000", "\ue001"  # private-use characters: the rendered text holds no text of a user's


class _Pieces:
    """What is remembered per tokenizer: encoded template pieces, and the end of an assistant's turn."""

    def __init__(self) -> None:
        self.ids: dict[str, list[int]] = {}
        self.end: list[int] | None = None


_REMEMBERED: weakref.WeakKeyDictionary[Any, _Pieces] = weakref.WeakKeyDictionary()


def load_tokenizer(path: Path | str, trust_remote_code: bool = False, revision: str | None = None) -> Any:
    """The tokenizer at `path` (a directory or Hub id); raises ModelError where there is none, or it has no EOS."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path), trust_remote_code=trust_remote_code, revision=revision or "main")
    except (OSError, ValueError, KeyError) as error:
        first = (str(error).strip().splitlines() or [""])[0][:200]
        raise ModelError(
            f"no tokenizer that can be loaded: {first}", where=str(path), do="give a Hugging Face directory with tokenizer.json"
        ) from error
    if tokenizer.eos_token_id is None:
        raise ModelError(
            "the tokenizer has no EOS token, so no answer could ever end", where=str(path), do="set eos_token in tokenizer_config.json"
        )
    return tokenizer


def encode_prompt(tokenizer: Any, messages: Messages) -> list[int]:
    """Ids of a conversation up to where the assistant's next turn begins."""
    return _encode(tokenizer, messages)[0]


def encode_completion(tokenizer: Any, text: str, *, ended: bool) -> list[int]:
    """Ids of an assistant's answer, without control tokens from its text.

    Args:
        tokenizer: The tokenizer.
        text: The answer.
        ended: Whether the turn's end follows, EOS included; an answer that was cut has none.
    """
    return _text_ids(tokenizer, text) + (end_of_turn(tokenizer) if ended else [])


def encode_conversation(tokenizer: Any, messages: Messages) -> tuple[list[int], list[bool]]:
    """Ids of a conversation up to the end of its last assistant turn, and which of them the assistant wrote.

    Equal to `encode_prompt(messages[:-1]) + encode_completion(last, ended=True)`. The mask is True on every
    assistant turn's tokens, the token that ends the turn included. Raises ValueError without an assistant turn.
    """
    last = max((index for index, message in enumerate(messages) if message["role"] == "assistant"), default=None)
    if last is None:
        raise ValueError("no assistant turn")
    ids, mask = _encode(tokenizer, messages[:last])
    answer = encode_completion(tokenizer, messages[last]["content"], ended=True)
    return ids + answer, mask + [True] * len(answer)


def decode_completion(tokenizer: Any, ids: Sequence[int]) -> str:
    """The text of generated ids, without control tokens."""
    return tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)


def end_of_turn(tokenizer: Any) -> list[int]:
    """Ids from the end of an assistant's text up to and including EOS, as the chat template writes them."""
    remembered = _remembered(tokenizer)
    if remembered.end is None:
        pieces = _render(tokenizer, [{"role": "user", "content": "x"}, {"role": "assistant", "content": "x"}], False)
        remembered.end = _up_to_eos(tokenizer, _piece_ids(tokenizer, pieces[-1])) or [tokenizer.eos_token_id]
    return list(remembered.end)


def _encode(tokenizer: Any, messages: Messages) -> tuple[list[int], list[bool]]:
    pieces = _render(tokenizer, messages, True)
    ids = list(_piece_ids(tokenizer, pieces[0]))
    mask = [False] * len(ids)
    for message, piece in zip(messages, pieces[1:], strict=True):
        answered = message["role"] == "assistant"
        text, after = _text_ids(tokenizer, message["content"]), _piece_ids(tokenizer, piece)
        end = len(_up_to_eos(tokenizer, after)) if answered else 0
        ids += text + after
        mask += [answered] * (len(text) + end) + [False] * (len(after) - end)
    return ids, mask


def _up_to_eos(tokenizer: Any, ids: list[int]) -> list[int]:
    return ids[: ids.index(tokenizer.eos_token_id) + 1] if tokenizer.eos_token_id in ids else []


def _render(tokenizer: Any, messages: Messages, add_generation_prompt: bool) -> list[str]:
    """The template's text before, between and after the messages' contents: one piece more than messages.

    Raises:
        ModelError: the template is missing or fails, or does not write every message once and in order.
    """
    marked = [{"role": message["role"], "content": f"{_OPEN}{index}{_CLOSE}"} for index, message in enumerate(messages)]
    try:
        text = tokenizer.apply_chat_template(marked, tokenize=False, add_generation_prompt=add_generation_prompt)
    except Exception as error:
        raise ModelError(
            f"the chat template cannot render these turns ({', '.join(message['role'] for message in messages)}): {error}",
            where="chat_template", do="set model.chat_template to instruction, or to a Jinja file of your own",
        ) from error  # fmt: skip
    pieces, rest = [], text
    for message in marked:
        before, found, rest = rest.partition(message["content"])
        if not found:
            raise ModelError("the chat template leaves a message out", where="chat_template", do="set model.chat_template to instruction")
        pieces.append(before)
    return [*pieces, rest]


def _piece_ids(tokenizer: Any, piece: str) -> list[int]:
    known = _remembered(tokenizer).ids
    if piece not in known:
        known[piece] = tokenizer(piece, add_special_tokens=False)["input_ids"] if piece else []
    return known[piece]


def _text_ids(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"] if text else []


def _remembered(tokenizer: Any) -> _Pieces:
    found = _REMEMBERED.get(tokenizer)
    if found is None:
        found = _REMEMBERED[tokenizer] = _Pieces()
    return found
