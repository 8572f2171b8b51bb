"""The one place that turns conversations into token ids: for training, sampling and scoring alike.

The ids are those of the chat template's own text. Where an assistant's turn begins and ends is found by having the template write
the conversation again with a mark in place of an answer, so that whatever it does (trim, leave old thinking out, move the system
turn) is followed. What a user writes can never become a control token.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alignflow.data.chat_templates import Messages, write_conversation
from alignflow.data.errors import ModelError, TemplateRefusedError
from alignflow.data.token_ids import Span, controls_of, inner_ids, template_ids, text_ids


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
class _Written:
    """A template's text, and the places in it of control tokens that stand in a user's text."""

    text: str
    literal: tuple[Span, ...] = ()

    def before(self, place: int) -> _Written:
        return _Written(self.text[:place], tuple(span for span in self.literal if span[1] <= place))

    def followed_by(self, text: str) -> _Written:
        return _Written(self.text + text, self.literal)


@dataclass(frozen=True)
class _Turn:
    """Where an assistant's turn stands in a text: from after its header, to the end of its content, to the end of the turn."""

    start: int
    content_end: int
    end: int


@dataclass
class _Memory:
    """What is remembered per tokenizer: for each sequence of roles, the text that the template writes after each turn's content."""

    template: Any
    after: dict[tuple[str, ...], list[str | None]] = field(default_factory=dict)
    opening: list[int] | None = None


_REMEMBERED: weakref.WeakKeyDictionary[Any, _Memory] = weakref.WeakKeyDictionary()


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
    written = _write(tokenizer, messages, True)
    return template_ids(tokenizer, written.text, written.literal)[0]


def encode_turn(tokenizer: Any, messages: Messages, text: str, *, ended: bool) -> EncodedTurn:
    """Ids of a conversation, and of the assistant's answer to it, as the chat template writes them.

    The prompt is that of `encode_prompt`, unless the template writes the answer without what the generation prompt opens (a
    block of thinking): then the prompt ends where the two part. An answer that itself closes that block, or was cut
    inside of it, was sampled from the generation prompt, and follows it.

    Args:
        tokenizer: The tokenizer.
        messages: The conversation, up to a user's turn.
        text: The answer.
        ended: Whether the turn's end follows; an answer that was cut has none.
    """
    whole = _write(tokenizer, [*messages, {"role": "assistant", "content": text}], False)
    prompt = _write(tokenizer, messages, True)
    if _continues(tokenizer, prompt, whole, text, ended):
        return _encode_continuation(tokenizer, prompt, text, ended)
    whole, turn = _last_turn(tokenizer, [*messages, {"role": "assistant", "content": text}], whole, prompt)
    return _divide(tokenizer, whole.before(turn.end if ended else turn.content_end), turn.start)


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
    spoken = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    if not spoken:
        raise ValueError("no assistant turn")
    messages = messages[: spoken[-1] + 1]
    whole = _write(tokenizer, messages, False)
    earlier = [_turn(tokenizer, messages, index, whole) for index in spoken[:-1]]
    whole, last = _last_turn(tokenizer, messages, whole)
    divided = _divide(tokenizer, whole.before(last.end), last.start)
    _, places = template_ids(tokenizer, whole.text[: last.start], whole.before(last.start).literal, [turn.start for turn in earlier])
    learnt = [turn for index, turn in zip(spoken, earlier, strict=False) if messages[index].get("weight") != 0]
    supervised = [any(turn.start <= start < turn.end and end <= turn.end for turn in learnt) for start, end in places]
    across = any(start < turn.start < end for start, end in places for turn in earlier)
    own = messages[-1].get("weight") != 0
    return EncodedConversation(
        [*divided.prompt_ids, *divided.completion_ids], [*supervised, *[own] * len(divided.completion_ids)], divided.merged or across
    )


def encode_text(tokenizer: Any, text: str) -> list[int]:
    """Ids of plain text outside of any conversation, without control tokens."""
    return text_ids(tokenizer, text)


def decode_completion(tokenizer: Any, ids: Sequence[int]) -> str:
    """The text of generated ids, without control tokens, and without what the template itself writes before an answer's text.

    That is an empty block of thinking (Qwen3), or the header of the final channel (gpt-oss) with whatever came before it.
    """
    ids = list(ids)
    opening = _opening_ids(tokenizer)
    if opening:
        places = [place for place in range(len(ids) - len(opening) + 1) if ids[place : place + len(opening)] == opening]
        if places and (places[0] == 0 or controls_of(tokenizer).ids.intersection(opening)):
            ids = ids[places[-1] + len(opening) :]
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def end_token(tokenizer: Any) -> int:
    """Id of the control token that ends an assistant's turn: the template's, or EOS where it writes none."""
    end = end_text(tokenizer) if tokenizer.chat_template is not None else ""
    return template_ids(tokenizer, end)[0][-1] if end else tokenizer.eos_token_id


def end_text(tokenizer: Any) -> str:
    """What the chat template writes after an assistant's text, up to its first control token; empty where there is none.

    A template that ends a turn by the header of the next one (GLM) is read with a further user turn.
    """
    for roles in (("user", "assistant"), ("user", "assistant", "user")):
        after = _after(tokenizer, roles)[1]
        found = controls_of(tokenizer).any.search(after) if after else None
        if after and found:
            return after[: found.end()]
    return ""


def follows(tokenizer: Any, roles: tuple[str, ...]) -> bool:
    """Whether the chat template writes every turn of a conversation of such roles."""
    return None not in _after(tokenizer, roles)


def _opening_ids(tokenizer: Any) -> list[int]:
    """Ids of what the template writes between its generation prompt and an answer's text; mostly none."""
    remembered = _remembered(tokenizer)
    if remembered.opening is None:
        messages = [{"role": "user", "content": "x"}]
        prompt = write_conversation(tokenizer, messages, True)
        before, _ = _marked(tokenizer, [*messages, {"role": "assistant", "content": "x"}], 1)
        text = before.removeprefix(prompt) if before.startswith(prompt) else ""
        remembered.opening = template_ids(tokenizer, text)[0] if text.strip() else []
    return remembered.opening


def _divide(tokenizer: Any, whole: _Written, border: int) -> EncodedTurn:
    """A text as the ids before a border, encoded alone as a model that samples sees them, and those after it."""
    ids, places = template_ids(tokenizer, whole.text, whole.literal, [border])
    before = whole.before(border)
    prompt = template_ids(tokenizer, before.text, before.literal)[0]
    if ids[: len(prompt)] == prompt and all(start >= border for start, _ in places[len(prompt) :]):
        return EncodedTurn(prompt, ids[len(prompt) :], False)
    rest = next((index for index, (start, _) in enumerate(places) if start >= border), len(places))
    reaching = max((end for start, end in places[:rest] if end > border), default=border)
    return EncodedTurn(prompt, [*inner_ids(tokenizer, whole.text[border:reaching]), *ids[rest:]], True)


def _continues(tokenizer: Any, prompt: _Written, whole: _Written, text: str, ended: bool) -> bool:
    """Whether an answer goes on from the generation prompt in a way that the template does not write: inside of thinking, or from it."""
    if whole.text.startswith(prompt.text):
        opening = controls_of(tokenizer).any.match(tokenizer.decode(_opening_ids(tokenizer)).strip())
        return not ended and opening is not None and text.lstrip().startswith(opening.group())
    opened = prompt.text[_shared(prompt.text, whole.text) :].strip()
    closing = f"</{opened[1:]}" if opened.startswith("<") and opened.endswith(">") else None
    return not ended or (closing is not None and closing in text)


def _encode_continuation(tokenizer: Any, prompt: _Written, text: str, ended: bool) -> EncodedTurn:
    border = len(prompt.text)
    spans = tuple((border + found.start(), border + found.end()) for found in controls_of(tokenizer).special.finditer(text))
    end = (end_text(tokenizer) or tokenizer.eos_token) if ended else ""
    return _divide(tokenizer, _Written(f"{prompt.text}{text}{end}", (*prompt.literal, *spans)), border)


def _last_turn(tokenizer: Any, messages: Messages, whole: _Written, prompt: _Written | None = None) -> tuple[_Written, _Turn]:
    """The last turn's place in a text that ends with it, and the text, with the turn's end where the template left that to the next turn."""
    turn = _turn(tokenizer, messages, len(messages) - 1, whole, prompt)
    if turn.end > turn.content_end:
        return whole, turn
    end = end_text(tokenizer) or tokenizer.eos_token
    return whole.before(turn.content_end).followed_by(end), _Turn(turn.start, turn.content_end, turn.content_end + len(end))


def _turn(tokenizer: Any, messages: Messages, index: int, whole: _Written, prompt: _Written | None = None) -> _Turn:
    """Where the assistant's turn `index` stands in the text of all messages."""
    after = _after(tokenizer, tuple(str(message["role"]) for message in messages))[index]
    marked = None
    if index == len(messages) - 1 and after is not None and whole.text.endswith(after):
        content_end = len(whole.text) - len(after)
    else:
        marked = _marked(tokenizer, messages, index)
        content_end = len(whole.text) - _shared(marked[1][::-1], whole.text[::-1])
    end = content_end
    found = controls_of(tokenizer).any.search(after or "")
    if found and whole.text.startswith((after or "")[: found.end()], content_end):
        end = content_end + found.end()
    prompt = prompt or _write(tokenizer, messages[:index], True)
    if whole.text.startswith(prompt.text) and len(prompt.text) <= content_end:
        return _Turn(len(prompt.text), content_end, end)
    return _Turn(_parting(tokenizer, messages, index, whole, prompt, marked or _marked(tokenizer, messages, index)), content_end, end)


def _parting(
    tokenizer: Any, messages: Messages, index: int, whole: _Written, prompt: _Written, marked: tuple[str, str]
) -> int:  # fmt: skip
    """Where the turn begins whose text the generation prompt is no beginning of: after what both have of the header."""
    content = _shared(marked[0], whole.text)
    history = len(_write(tokenizer, messages[:index], False).text) if index else 0
    parted = _shared(prompt.text, whole.text)
    if parted < history:
        return content  # the template wrote an earlier turn otherwise, so the two texts cannot be laid side by side
    ends = [found.end() for found in controls_of(tokenizer).any.finditer(whole.text, history) if found.end() <= parted]
    line = whole.text.rfind("\n", history, parted) + 1
    return max([history, *ends, line])


def _after(tokenizer: Any, roles: tuple[str, ...]) -> list[str | None]:
    """For each turn of a conversation of such roles, the text between its content and the next one's; None where it is not written."""
    remembered = _remembered(tokenizer)
    if roles not in remembered.after:
        marks = [f"{_MARKS[0]}{index}{_MARKS[1]}" for index in range(len(roles))]
        turns = [{"role": role, "content": mark} for role, mark in zip(roles, marks, strict=True)]
        try:
            text = write_conversation(tokenizer, turns, False)
        except TemplateRefusedError:
            text = ""
        after = [text.partition(mark)[2].partition(_MARKS[0])[0] if mark in text else None for mark in marks]
        remembered.after[roles] = after  # type: ignore[assignment]
    return remembered.after[roles]


def _remembered(tokenizer: Any) -> _Memory:
    found = _REMEMBERED.get(tokenizer)
    if found is None or found.template is not tokenizer.chat_template:
        found = _REMEMBERED[tokenizer] = _Memory(tokenizer.chat_template)
    return found


_MARKS = ("\ue0f0", "\ue0f1")  # private-use characters: no template has them


def _marked(tokenizer: Any, messages: Messages, index: int) -> tuple[str, str]:
    """What the template writes before and after the content of turn `index`.

    Raises:
        ModelError: it leaves the content out.
    """
    mark = _free_mark(messages)
    turns = [{**message, "content": mark} if place == index else message for place, message in enumerate(messages)]
    before, found, after = write_conversation(tokenizer, turns, False).partition(mark)
    if not found:
        raise ModelError("the chat template leaves a message out", where="chat_template", do="set model.chat_template to instruction")
    return before, after


def _free_mark(messages: Messages) -> str:
    """A character that no message has."""
    texts = "".join(value for message in messages for value in message.values() if isinstance(value, str))
    return next(character for character in map(chr, range(0xE100, 0xF8FF)) if character not in texts)


def _write(tokenizer: Any, messages: Messages, add_generation_prompt: bool) -> _Written:
    """The template's text, and where a control token in it comes from a message."""
    special = controls_of(tokenizer).special
    if not any(special.search(value) for message in messages for value in message.values() if isinstance(value, str)):
        return _Written(write_conversation(tokenizer, messages, add_generation_prompt))
    mark, hidden = _free_mark(messages), []

    def hide(value: Any) -> Any:
        return special.sub(lambda found: f"{mark}{hidden.append(found.group()) or len(hidden) - 1}{mark}", value) if isinstance(value, str) else value

    shielded = [{name: value if name == "role" else hide(value) for name, value in message.items()} for message in messages]
    pieces = write_conversation(tokenizer, shielded, add_generation_prompt).split(mark)
    text, spans = pieces[0], []
    for number, piece in zip(pieces[1::2], pieces[2::2], strict=True):
        spans.append((len(text), len(text) + len(hidden[int(number)])))
        text += hidden[int(number)] + piece
    return _Written(text, tuple(spans))


def _shared(first: str, second: str) -> int:
    """Length of the longest common beginning, by halving: a comparison of whole texts is fast."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[:middle] == second[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
