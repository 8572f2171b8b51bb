"""Many conversations to token ids at once, with the results of the functions of `rendering` for one.

A chat template writes many conversations in one call, and each different prompt once; their texts are cut into pieces and encoded together
(`text_pieces`). Everything between, such as where an answer begins, is the code of `rendering` itself. What the fast way does not know (a
message with more than a text, a control token in a message, a token across the border before an answer) goes one by one.
None stands where the chat template refuses a conversation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from alignflow.data.chat_templates import Messages, write_conversation
from alignflow.data.errors import TemplateRefusedError
from alignflow.data.rendering import (
    EncodedConversation,
    EncodedTurn,
    Placed,
    divide,
    encode_prompt,
    encode_turn,
    encode_turns,
    joined,
    place_answer,
    place_turns,
    up_to_last_answer,
)
from alignflow.data.template_turns import Written
from alignflow.data.text_pieces import Pieces, can_encode
from alignflow.data.token_ids import controls_of

Found = TypeVar("Found")
Answer = tuple[Messages, str, bool]
"""A conversation up to a user's turn, the answer to it, and whether the turn's end follows the answer."""

Key = tuple[tuple[str, str], ...]
"""A conversation as role and text of each turn: two with one key are written alike."""

AT_ONCE = 512
"""Conversations that are held as texts and encodings at one time; results do not depend on it."""


def encode_conversations(tokenizer: Any, conversations: Sequence[Messages]) -> list[EncodedConversation | None]:
    """What `encode_turns` returns for each conversation, in their order; None where the chat template refuses one.

    Raises:
        ValueError: a conversation has no assistant turn.
        ModelError: the tokenizer has no chat template, or it leaves a turn out.
    """
    answered = [up_to_last_answer(messages) for messages in conversations]
    return _in_parts(tokenizer, answered, _encode_conversations, lambda messages: encode_turns(tokenizer, messages))


def encode_answers(tokenizer: Any, turns: Sequence[Answer], *, sampled: bool = True) -> list[EncodedTurn | None]:
    """What `encode_turn` returns for each conversation and answer, in their order; None where the chat template refuses one.

    Args:
        tokenizer: The tokenizer.
        turns: For each answer the conversation, its text, and whether the turn's end follows.
        sampled: Whether the answers may be some that were sampled, and so go on from the generation prompt.

    Raises:
        ModelError: the tokenizer has no chat template, or it leaves a turn out.
    """
    return _in_parts(
        tokenizer,
        turns,
        lambda batch, some: _encode_answers(batch, some, sampled),
        lambda turn: encode_turn(tokenizer, turn[0], turn[1], ended=turn[2], sampled=sampled),
    )


def encode_prompts(tokenizer: Any, prompts: Sequence[Messages]) -> list[list[int] | None]:
    """What `encode_prompt` returns for each conversation, in their order; None where the chat template refuses one.

    Raises:
        ModelError: the tokenizer has no chat template.
    """
    return _in_parts(tokenizer, prompts, _encode_prompts, lambda messages: encode_prompt(tokenizer, messages))


def encode_every_prompt(tokenizer: Any, prompts: Sequence[Messages]) -> list[list[int]]:
    """What `encode_prompt` returns for each conversation, in their order.

    Raises:
        TemplateRefusedError: the chat template refuses one of them.
        ModelError: the tokenizer has no chat template.
    """
    found = encode_prompts(tokenizer, prompts)
    return [
        encode_prompt(tokenizer, messages) if ids is None else ids for messages, ids in zip(prompts, found, strict=True)
    ]


def _in_parts(
    tokenizer: Any,
    items: Sequence[Any],
    many: Callable[[_Batch, Sequence[Any]], list[Any]],
    one: Callable[[Any], Any],
) -> list[Any]:
    """The results for all items, some at a time; `many` leaves _ALONE for what goes one by one."""
    if tokenizer.chat_template is None or not can_encode(tokenizer):
        return [_or_none(one, item) for item in items]
    found: list[Any] = []
    for start in range(0, len(items), AT_ONCE):
        some = items[start : start + AT_ONCE]
        results = many(_Batch(tokenizer), some)
        found += [
            _or_none(one, item) if result is _ALONE else result for item, result in zip(some, results, strict=True)
        ]
    return found


def _or_none(encode: Callable[[Any], Found], item: Any) -> Found | None:
    try:
        return encode(item)
    except TemplateRefusedError:
        return None


_ALONE: Any = object()
"""Stands for a result that is to be found one by one."""


class _Batch:
    """Conversations that are written and encoded together."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.pieces = Pieces(tokenizer)
        self._special = controls_of(tokenizer).special

    def key(self, messages: Messages) -> Key | None:
        """What the chat template is given of a conversation; None where that is more than texts without control tokens."""
        search, turns = self._special.search, []
        for message in messages:
            if not message.keys() <= _PLAIN:
                return None
            role, content = message.get("role"), message.get("content")
            if role not in _ROLES or type(content) is not str or search(content):
                return None
            turns.append((role, content))
        return tuple(turns) or None

    def written(self, keys: Iterable[Key], add_generation_prompt: bool) -> dict[Key, Written | None]:
        """What the chat template writes for each conversation; None where it refuses one."""
        kinds: dict[tuple[str, ...], list[Key]] = {}
        for key in dict.fromkeys(
            keys
        ):  # what a template refuses depends mostly on the roles, and one refusal ends a call
            kinds.setdefault(tuple(role for role, _ in key), []).append(key)
        return {
            key: found
            for some in kinds.values()
            for key, found in zip(some, self._texts(some, add_generation_prompt), strict=True)
        }

    def _texts(self, keys: Sequence[Key], add_generation_prompt: bool) -> list[Written | None]:
        turns = [[{"role": role, "content": content} for role, content in key] for key in keys]
        try:
            return [
                Written(text)
                for text in self.tokenizer.apply_chat_template(
                    turns, tokenize=False, add_generation_prompt=add_generation_prompt
                )
            ]
        except Exception:  # noqa: BLE001 - whatever a template raises: which conversations it refuses is found one by one
            return [
                _or_none(lambda some: Written(write_conversation(self.tokenizer, some, add_generation_prompt)), some)
                for some in turns
            ]

    def cut(self, placed: Placed) -> tuple[list[str], list[str]]:
        """The pieces of a text before its border, and those of the text from where the last of them begins."""
        text, border = placed.whole.text, placed.border
        head = self.pieces.cut(text[:border])
        return head, self.pieces.cut(text[border - len(head[-1]) :])

    def divided(self, placed: Placed, head: Sequence[str], tail: Sequence[str]) -> EncodedTurn:
        """What `divide` returns."""
        found = self.pieces.divided(head, tail)
        return divide(self.tokenizer, placed.whole, placed.border) if found is None else EncodedTurn(*found, False)


_PLAIN = {"role", "content", "weight"}
"""What a message may have whose text alone the chat template is given."""
_ROLES = ("system", "user", "assistant")


def _encode_prompts(batch: _Batch, prompts: Sequence[Messages]) -> list[Any]:
    keys = [batch.key(messages) for messages in prompts]
    written = batch.written([key for key in keys if key is not None], True)
    cut = {key: batch.pieces.cut(text.text) for key, text in written.items() if text is not None}
    batch.pieces.encode()
    return [_ALONE if key is None else batch.pieces.ids(cut[key]) if key in cut else None for key in keys]


def _encode_answers(batch: _Batch, turns: Sequence[Answer], sampled: bool) -> list[Any]:
    keys = [(batch.key(messages), batch.key([{"role": "assistant", "content": text}])) for messages, text, _ in turns]
    known = [
        (prompt, prompt + answer) if prompt is not None and answer is not None else None for prompt, answer in keys
    ]
    prompts = batch.written([key[0] for key in known if key is not None], True)
    wholes = batch.written([key[1] for key in known if key is not None], False)

    def place(key: tuple[Key, Key] | None, turn: Answer) -> Any:
        if key is None:
            return _ALONE
        prompt, whole = prompts[key[0]], wholes[key[1]]
        if prompt is None or whole is None:
            return None
        messages, text, ended = turn
        return _placed(
            lambda: place_answer(batch.tokenizer, messages, text, ended=ended, sampled=sampled, written=(whole, prompt))
        )

    return _divided(
        batch, [place(key, turn) for key, turn in zip(known, turns, strict=True)], lambda divided, *_: divided
    )


def _encode_conversations(batch: _Batch, conversations: Sequence[Messages]) -> list[Any]:
    keys = [batch.key(messages) for messages in conversations]
    wholes = batch.written([key for key in keys if key is not None], False)
    prompts = batch.written([key[:-1] for key in keys if key is not None and len(key) > 1], True)

    def place(key: Key | None, messages: Messages) -> Any:
        if key is None or len(key) == 1:
            return _ALONE
        prompt, whole = prompts[key[:-1]], wholes[key]
        if prompt is None or whole is None:
            return None
        return _placed(lambda: place_turns(batch.tokenizer, messages, whole, prompt))

    def finish(divided: EncodedTurn, placed: Placed, head: Sequence[str]) -> EncodedConversation:
        return joined(divided, placed, *_marked(batch, placed, head)) if placed.earlier else joined(divided, placed)

    return _divided(batch, [place(key, messages) for key, messages in zip(keys, conversations, strict=True)], finish)


def _placed(place: Callable[[], Placed]) -> Any:
    """Where turns stand; _ALONE where control tokens of a message are in the text."""
    try:
        found = place()
    except TemplateRefusedError:
        return None
    return _ALONE if found.whole.literal else found


def _divided(
    batch: _Batch, places: Sequence[Any], finish: Callable[[EncodedTurn, Placed, Sequence[str]], Any]
) -> list[Any]:
    """Cut all texts, encode them, and make each one's result; what is no Placed stays as it is."""
    cut = [batch.cut(placed) if isinstance(placed, Placed) else None for placed in places]
    batch.pieces.encode()
    return [
        placed if pieces is None else finish(batch.divided(placed, *pieces), placed, pieces[0])
        for placed, pieces in zip(places, cut, strict=True)
    ]


def _marked(batch: _Batch, placed: Placed, head: Sequence[str]) -> tuple[list[bool], bool]:
    """Which tokens before the last answer are supervised, and whether one reaches across the border before an earlier answer."""
    supervised: list[bool] = []
    across = False
    for begin, end, spans in batch.pieces.places(head):
        learnt = [turn for turn in placed.learnt if turn.start < end and begin < turn.end]
        supervised += (
            [any(turn.start <= start < turn.end for turn in learnt) for start, _ in spans]
            if learnt
            else [False] * len(spans)
        )
        borders = [turn.start for turn in placed.earlier if begin < turn.start < end]
        across = across or any(start < border < stop for border in borders for start, stop in spans)
    return supervised, across
