"""The one place that turns conversations into token ids: for training, sampling and scoring alike.

The ids are those of the chat template's own text. Where an assistant's turn begins and ends is found by having the template write
the conversation again with a mark in place of an answer, so that whatever it does (trim, leave old thinking out, move the system
turn) is followed. What a user writes can never become a control token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignflow import collector
from alignflow.data.chat_templates import Messages
from alignflow.data.errors import ModelError
from alignflow.data.template_turns import blanks_around, earlier_turns, end_text, last_turn, opening_ids
from alignflow.data.token_ids import controls_of, inner_ids, template_ids, text_ids
from alignflow.data.written import Turn, Written, shared, write_shielded


@dataclass(frozen=True)
class EncodedTurn:
    """An assistant's turn as token ids.

    Attributes:
        prompt_ids: What the model sees before it answers.
        completion_ids: The turn as the model has to write it, its end included unless it was cut.
        merged: Whether the template's own encoding has a token across the border between the two.
    """

    prompt_ids: list[int]
    completion_ids: list[int]
    merged: bool


@dataclass(frozen=True)
class EncodedConversation:
    """A conversation up to the end of its last assistant turn.

    Attributes:
        ids: Its token ids.
        supervised: Which of them an assistant wrote in a turn that is to be learnt.
        merged: Whether the template's own encoding has a token across the border before an answer.
    """

    ids: list[int]
    supervised: list[bool]
    merged: bool


@dataclass(frozen=True)
class Placed:
    """A text that a chat template wrote, up to the end of its last assistant turn, and where the assistant's turns stand in it.

    Attributes:
        whole: The text.
        border: Where the last answer begins, and what the model sees before it ends.
        earlier: The assistant turns before the last.
        learnt: Those of them that are to be learnt.
        last_learnt: Whether the last is to be learnt.
    """

    whole: Written
    border: int
    earlier: Sequence[Turn] = ()
    learnt: Sequence[Turn] = ()
    last_learnt: bool = True


def load_tokenizer(path: Path | str, trust_remote_code: bool = False, revision: str | None = None) -> Any:
    """The tokenizer at `path` (a directory or Hub id); raises ModelError where there is none, or it has no EOS."""
    try:
        with collector.paused():
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(
                str(path), trust_remote_code=trust_remote_code, revision=revision or "main"
            )
    except (OSError, ValueError, KeyError) as error:
        first = (str(error).strip().splitlines() or [""])[0][:200]
        raise ModelError(
            f"no tokenizer that can be loaded: {first}",
            where=str(path),
            do="give a Hugging Face directory with tokenizer.json",
        ) from error
    if not tokenizer.is_fast:
        raise ModelError(
            "the tokenizer cannot say where its tokens stand in a text", where=str(path), do="give it as tokenizer.json"
        )
    if tokenizer.eos_token_id is None:
        raise ModelError(
            "the tokenizer has no EOS token, so no answer could ever end",
            where=str(path),
            do="set eos_token in tokenizer_config.json",
        )
    return tokenizer


def encode_prompt(tokenizer: Any, messages: Messages) -> list[int]:
    """Ids of a conversation up to where the assistant's next turn begins."""
    written = write_shielded(tokenizer, messages, True)
    return template_ids(tokenizer, written.text, written.literal)[0]


def encode_turn(tokenizer: Any, messages: Messages, text: str, *, ended: bool, sampled: bool = True) -> EncodedTurn:
    """Ids of a conversation, and of the assistant's answer to it, as the chat template writes them.

    The prompt is that of `encode_prompt`, unless the template writes the answer without what the generation prompt opens (a
    block of thinking): then the prompt ends where the two part. An answer that itself closes that block, or was cut
    inside of it, was sampled from the generation prompt, and follows it.

    Args:
        tokenizer: The tokenizer.
        messages: The conversation, up to a user's turn.
        text: The answer.
        ended: Whether the turn's end follows; an answer that was cut has none.
        sampled: Whether the answer may be one that was sampled, and so go on from the generation prompt.
    """
    placed = place_answer(tokenizer, messages, text, ended=ended, sampled=sampled)
    return divide(tokenizer, placed.whole, placed.border)


def place_answer(
    tokenizer: Any,
    messages: Messages,
    text: str,
    *,
    ended: bool,
    sampled: bool,
    written: tuple[Written, Written] | None = None,
) -> Placed:
    """The text of a conversation and the answer to it, and where the prompt ends; see `encode_turn`.

    `written` is what the template writes for the conversation with the answer, and for the conversation with the generation prompt, where
    the caller has them.
    """
    turns = [*messages, {"role": "assistant", "content": text}]
    whole, prompt = written or (write_shielded(tokenizer, turns, False), write_shielded(tokenizer, messages, True))
    if sampled and _continues(tokenizer, prompt, whole, text, ended):
        return _place_continuation(tokenizer, prompt, text, ended)
    whole, turn = last_turn(tokenizer, turns, whole, prompt)
    return Placed(whole.before(turn.end if ended else turn.content_end), turn.start)


def encode_conversation(tokenizer: Any, messages: Messages) -> tuple[list[int], list[bool]]:
    """Ids of a conversation up to the end of its last assistant turn, and which of them an assistant wrote.

    See `encode_turns`. Raises ValueError without an assistant turn.
    """
    found = encode_turns(tokenizer, messages)
    return found.ids, found.supervised


def encode_turns(tokenizer: Any, messages: Messages) -> EncodedConversation:
    """A conversation as the chat template writes it, up to the end of its last assistant turn.

    Every assistant turn is supervised, the tokens that end it included; one with the weight 0 is not. The ids are the
    template's own, but for a token that would reach across the border before the last answer: a model that samples sees the prompt alone,
    so the prompt is encoded alone. Raises ValueError without an assistant turn.
    """
    placed = place_turns(tokenizer, up_to_last_answer(messages))
    divided = divide(tokenizer, placed.whole, placed.border)
    if not placed.earlier:
        return joined(divided, placed)
    before = placed.whole.before(placed.border)
    _, places = template_ids(tokenizer, before.text, before.literal)
    supervised = [any(turn.start <= start < turn.end for turn in placed.learnt) for start, _ in places]
    across = any(start < turn.start < end for start, end in places for turn in placed.earlier)
    return joined(divided, placed, supervised, across)


def up_to_last_answer(messages: Messages) -> Messages:
    """The turns up to the last one of the assistant. Raises ValueError where there is none."""
    last = next((index for index in reversed(range(len(messages))) if messages[index]["role"] == "assistant"), None)
    if last is None:
        raise ValueError("no assistant turn")
    return messages[: last + 1]


def place_turns(
    tokenizer: Any, messages: Messages, whole: Written | None = None, prompt: Written | None = None
) -> Placed:
    """The text of a conversation that ends with an assistant's turn, and where those turns stand in it; see `place_answer`."""
    whole = whole or write_shielded(tokenizer, messages, False)
    spoken = [index for index, message in enumerate(messages[:-1]) if message["role"] == "assistant"]
    earlier = earlier_turns(tokenizer, messages, spoken, whole)
    whole, last = last_turn(tokenizer, messages, whole, prompt)
    learnt = [turn for index, turn in zip(spoken, earlier, strict=True) if messages[index].get("weight") != 0]
    return Placed(whole.before(last.end), last.start, earlier, learnt, messages[-1].get("weight") != 0)


def joined(
    divided: EncodedTurn, placed: Placed, supervised: Sequence[bool] | None = None, across: bool = False
) -> EncodedConversation:
    """The ids of a divided text as one row; `supervised` and `across` are those of the part before the last answer, where earlier ones stand."""
    before = [False] * len(divided.prompt_ids) if supervised is None else supervised
    own = [placed.last_learnt] * len(divided.completion_ids)
    return EncodedConversation(
        [*divided.prompt_ids, *divided.completion_ids], [*before, *own], divided.merged or across
    )


def encode_text(tokenizer: Any, text: str) -> list[int]:
    """Ids of plain text outside of any conversation, without control tokens."""
    return text_ids(tokenizer, text)


def decode_completion(tokenizer: Any, ids: Sequence[int], *, ended: bool = False) -> str:
    """The text of generated ids, without control tokens, and without what the template itself writes around an answer's text.

    That is an empty block of thinking (Qwen3), the header of the final channel (gpt-oss) with whatever came before it, or the blanks between
    header and text, and before the end of an answer that ended: encoded again, the template writes them again.
    An answer that began another channel, or a block of thinking of control tokens, and never came to its text has none: it is empty.
    """
    ids = list(ids)
    opening = opening_ids(tokenizer)
    if opening and not tokenizer.decode(opening).lstrip().startswith("</"):
        places = [place for place in range(len(ids) - len(opening) + 1) if ids[place : place + len(opening)] == opening]
        if places and (places[0] == 0 or controls_of(tokenizer).ids.intersection(opening)):
            ids = ids[places[-1] + len(opening) :]
        elif not places and _lacks_text(tokenizer, ids, opening):
            return ""
    text: str = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    before, after = blanks_around(tokenizer)
    return text.removeprefix(before).removesuffix(after if ended else "")


def _lacks_text(tokenizer: Any, ids: Sequence[int], opening: Sequence[int]) -> bool:
    """Whether ids begin as what the template writes before an answer's text begins, and then go on with something else than that text."""
    controls = [number for number in opening if number in controls_of(tokenizer).ids]
    if not controls or opening[0] != controls[0] or list(ids[:1]) != controls[:1]:
        return False
    return (
        not tokenizer.convert_ids_to_tokens(controls[-1]).startswith("</") or controls[-1] not in ids
    )  # thinking that was closed has a text after it


def divide(tokenizer: Any, whole: Written, border: int) -> EncodedTurn:
    """A text as the ids before a border, encoded alone as a model that samples sees them, and those after it."""
    ids, places = template_ids(tokenizer, whole.text, whole.literal)
    before = whole.before(border)
    prompt = template_ids(tokenizer, before.text, before.literal)[0]
    if ids[: len(prompt)] == prompt and (len(ids) == len(prompt) or places[len(prompt)][0] >= border):
        return EncodedTurn(prompt, ids[len(prompt) :], False)
    rest = next((index for index, (start, _) in enumerate(places) if start >= border), len(places))
    reaching = max((end for start, end in places[:rest] if end > border), default=border)
    return EncodedTurn(prompt, [*inner_ids(tokenizer, whole.text[border:reaching]), *ids[rest:]], True)


def _continues(tokenizer: Any, prompt: Written, whole: Written, text: str, ended: bool) -> bool:
    """Whether an answer goes on from the generation prompt in a way that the template does not write: inside of thinking, or from it."""
    if whole.text.startswith(prompt.text):
        if ended:
            return False
        opening = controls_of(tokenizer).any.match(tokenizer.decode(opening_ids(tokenizer)).strip())
        if opening is None:
            return False
        closes = opening.group().startswith("</")  # the prompt opened the thinking, in which the answer was cut
        return opening.group() not in text if closes else text.lstrip().startswith(opening.group())
    opened = prompt.text[shared(prompt.text, whole.text) :].strip()
    closing = f"</{opened[1:]}" if opened.startswith("<") and opened.endswith(">") else None
    return not ended or (closing is not None and closing in text and not text.lstrip().startswith(opened))


def _place_continuation(tokenizer: Any, prompt: Written, text: str, ended: bool) -> Placed:
    border = len(prompt.text)
    spans = tuple(
        (border + found.start(), border + found.end()) for found in controls_of(tokenizer).special.finditer(text)
    )
    end = (end_text(tokenizer) or tokenizer.eos_token) if ended else ""
    return Placed(Written(f"{prompt.text}{text}{end}", (*prompt.literal, *spans)), border)
