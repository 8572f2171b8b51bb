"""How many tokens conversations have, counted word by word, without their ids and without rendering them.

That is possible where a chat template writes fixed texts around those of the messages (`template_shapes`), and the tokenizer encodes each word
for itself (`word_ids`). The numbers are those of `rendering`: where a token may reach across the border before an answer, or anything
else is not known to be plain, there is no number, and the conversation has to be encoded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from alignflow.data.chat_templates import Messages
from alignflow.data.template_memory import remembered
from alignflow.data.template_shapes import ROLES, Shape, shape_of
from alignflow.data.template_turns import end_in, lead_before, text_after
from alignflow.data.text_pieces import Ways, as_called, can_encode, ways_of
from alignflow.data.token_ids import controls_of
from alignflow.data.word_ids import Words

PLAIN = frozenset({"role", "content", "weight"})
"""What a message may have whose text alone the chat template is given."""


_IN_TURN = ("user", "assistant") * 32
_MOST_OTHERS = 8
"""The longest conversations that are counted: those in which users and assistant take turns, and others. A plan takes the square of the turns in
time and memory, and is kept for each sequence of roles, of which there are few of these."""


@dataclass(frozen=True)
class Sizes:
    """Tokens of a conversation.

    Attributes:
        starts: Tokens before each answer, in order [answers]; the ids before the last are what a model sees that samples it.
        total: Tokens up to the end of the last answer, or of all where none was asked for.
    """

    starts: list[int]
    total: int


class _Parts:
    """Fixed texts with those of messages between them, put together for each conversation.

    Args:
        parts: Texts, and places of messages.
    """

    def __init__(self, parts: Sequence[str | int]) -> None:
        self._texts: list[str] = [""]
        self._places: list[int] = []
        for part in parts:
            if isinstance(part, str):
                self._texts[-1] += part
            else:
                self._texts.append("")
                self._places.append(part)
        self.fixed = None if self._places else self._texts[0]

    def text(self, contents: Sequence[str]) -> str:
        """The text for messages with such contents."""
        if len(self._places) == 1:
            return self._texts[0] + contents[self._places[0]] + self._texts[1]
        return (
            "".join([text + contents[place] for text, place in zip(self._texts, self._places, strict=False)])
            + self._texts[-1]
        )


@dataclass(frozen=True)
class _Lead:
    """What stands before an answer in its piece of the text.

    Attributes:
        turn: The place of the answer.
        parts: The text.
        words: Its words, where it is the same for all conversations.
    """

    turn: int
    parts: _Parts
    words: list[str] | None


@dataclass(frozen=True)
class _Piece:
    """A part of the text between control tokens that has the text of a message in it; it is encoded for itself.

    Attributes:
        before: Tokens between the piece before and this one.
        parts: The text.
        leads: For each answer that begins in it what stands before.
    """

    before: int
    parts: _Parts
    leads: tuple[_Lead, ...]


@dataclass(frozen=True)
class _Plan:
    """How conversations of one sequence of roles are counted: their shape, the pieces, and the tokens after the last of these."""

    shape: Shape
    pieces: tuple[_Piece, ...]
    after: int


def count_conversations(tokenizer: Any, conversations: Sequence[Messages]) -> list[Sizes | None]:
    """Tokens of conversations that end with an answer, as `encode_turns` encodes them; None where they have to be encoded."""
    return _count(tokenizer, conversations, _plan_of_answers)


def count_prompts(tokenizer: Any, prompts: Sequence[Messages]) -> list[Sizes | None]:
    """Tokens of conversations as `encode_prompt` encodes them; None where they have to be encoded."""
    return _count(tokenizer, prompts, _plan_of_prompt)


def _count(tokenizer: Any, conversations: Sequence[Messages], make: Callable[..., _Plan | None]) -> list[Sizes | None]:
    ways = ways_of(tokenizer) if tokenizer.chat_template is not None and can_encode(tokenizer) else None
    if ways is None or ways.words is None or not controls_of(tokenizer).texts <= ways.controls.keys():
        return [None] * len(conversations)
    as_called(tokenizer)
    ways.words.make_room()
    plans = remembered(tokenizer).sizes
    found: list[Sizes | None] = [None] * len(conversations)
    later: list[tuple[int, _Plan, list[str]]] = []
    for number, messages in enumerate(conversations):
        roles = _plain_roles(messages)
        if roles is None or not _is_usual(roles):
            continue
        key = make, roles
        if key not in plans:
            plans[key] = make(tokenizer, ways, roles)
        plan = plans[key]
        if plan is not None:
            contents = plan.shape.contents([message["content"] for message in messages])
            try:
                found[number] = _sizes(plan, contents, ways)
            except KeyError:  # a new word
                later.append((number, plan, contents))
    _learn(ways, later)
    for number, plan, contents in later:
        try:
            found[number] = _sizes(plan, contents, ways)
        except KeyError:
            continue
    return found


def _plain_roles(messages: Messages) -> tuple[str, ...] | None:
    """The roles of messages that are texts alone; None for others."""
    for message in messages:
        if not message.keys() <= PLAIN or type(message.get("content")) is not str or message.get("role") not in ROLES:
            return None
    if (
        messages and messages[0]["role"] == "system" and not messages[0]["content"].strip()
    ):  # some templates take an empty one for none
        return None
    return tuple([message["role"] for message in messages]) or None


def _is_usual(roles: tuple[str, ...]) -> bool:
    """Whether a sequence of roles is one of a limited number."""
    turns = roles[roles[0] == "system" :]
    return len(roles) <= _MOST_OTHERS or turns == _IN_TURN[: len(turns)]


def _sizes(plan: _Plan, contents: Sequence[str], ways: Ways) -> Sizes | None:
    """The tokens of a conversation; raises KeyError where a word is new, and gives None where it has to be encoded."""
    known = _words(ways)
    divide, size = known.divide, known.sizes.__getitem__
    total, starts = 0, []
    for piece in plan.pieces:
        text = piece.parts.text(contents)
        if ways.has_control(text):
            return None
        words = divide(text)
        total += piece.before
        for lead in piece.leads:
            before = divide(lead.parts.text(contents)) if lead.words is None else lead.words
            if not contents[lead.turn] or words[: len(before)] != before:
                return None
            starts.append(total + sum(map(size, before)))
        total += sum(map(size, words))
    return Sizes(starts, total + plan.after)


def _learn(ways: Ways, later: Sequence[tuple[int, _Plan, Sequence[str]]]) -> None:
    """Have the tokenizer count the new words of some conversations, all at once."""
    texts = (piece.parts.text(contents) for _, plan, contents in later for piece in plan.pieces)
    known = _words(ways)
    known.learn_sizes({word for text in texts for word in known.divide(text)})


def _words(ways: Ways) -> Words:
    """The words of a tokenizer that `_count` was asked with: it has them."""
    assert ways.words is not None
    return ways.words


def _plan_of_prompt(tokenizer: Any, ways: Ways, roles: tuple[str, ...]) -> _Plan | None:
    shape = shape_of(tokenizer, roles, True)
    return None if shape is None else _plan(shape, {}, ways)


def _plan_of_answers(tokenizer: Any, ways: Ways, roles: tuple[str, ...]) -> _Plan | None:
    """The plan for a conversation that ends with an answer; None where the template writes an answer otherwise than after its generation prompt."""
    shape = shape_of(tokenizer, roles, False)
    answers = [place for place, role in enumerate(roles) if role == "assistant"]
    if shape is None or roles[-1] != "assistant" or answers[0] == 0:
        return None
    after, turns = text_after(tokenizer, roles), [{"role": role, "content": "x"} for role in roles]
    borders: dict[int, int] = {}
    for place in answers:
        prompt = shape_of(tokenizer, roles[:place], True)
        before = shape.texts[place]
        if prompt is None or (prompt.texts[:-1], prompt.trimmed) != (shape.texts[:place], shape.trimmed[:place]):
            return None
        if not before.startswith(prompt.texts[-1]) or after[place] != shape.texts[place + 1]:
            return None
        lead = (
            lead_before(tokenizer, turns, before, len(before))
            if place != answers[-1]
            else len(before) - len(prompt.texts[-1])
        )
        if lead is None:
            return None
        borders[place] = len(before) - lead
    end = end_in(tokenizer, shape.texts[-1])
    if not end:
        return None
    return _plan(Shape((*shape.texts[:-1], shape.texts[-1][:end]), shape.trimmed), borders, ways)


def _plan(shape: Shape, borders: dict[int, int], ways: Ways) -> _Plan | None:
    """Cut a shape at its control tokens. `borders` has for each answer where in the fixed text before it the answer begins.

    None where a control token stands between such a border and the answer's text, or a fixed text cannot be counted.
    """
    found: list[tuple[list[str | int], list[_Lead]]] = [([], [])]
    for place, text in enumerate(shape.texts):
        cut = ways.border.split(text)
        head = ways.border.split(text[: borders[place]]) if place in borders else cut
        if len(head) != len(cut) or head[:-1] != cut[:-1] or not cut[-1].startswith(head[-1]):
            return None
        found[-1][0].append(cut[0])
        found += [([following], []) for following in cut[2::2]]
        if place in borders:
            found[-1][1].append(_lead(place, [*found[-1][0][:-1], head[-1]], ways))
        if place < len(shape.trimmed):
            found[-1][0].append(place)
    pieces: list[_Piece] = []
    between = 0
    for number, (parts, leads) in enumerate(found):
        between += number > 0  # the control token before it
        fixed = _Parts(parts).fixed
        if fixed is None:
            pieces.append(_Piece(between, _Parts(parts), tuple(leads)))
            between = 0
        elif (size := _size(ways, fixed)) is not None:
            between += size
        else:
            return None
    return _Plan(shape, tuple(pieces), between)


def _lead(turn: int, parts: Sequence[str | int], ways: Ways) -> _Lead:
    text = _Parts(parts)
    return _Lead(turn, text, None if text.fixed is None else _words(ways).divide(text.fixed))


def _size(ways: Ways, text: str) -> int | None:
    """Tokens of a text without control tokens; None where it has a word that cannot be counted."""
    known = _words(ways)
    words = known.divide(text)
    known.learn_sizes(set(words))
    try:
        return sum(map(known.sizes.__getitem__, words))
    except KeyError:
        return None
