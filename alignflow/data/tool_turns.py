"""Where an assistant's turn stands in a text with calls of tools, their results or thinking.

A turn is found by having the template write the conversation once more with marks in the turn: where the two texts part is inside of the turn,
and where they meet again is after its last text. From there the turn reaches back to where the generation prompt ends, and on to the token
that ends it. What cannot be found so is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from alignflow.data.chat_templates import Messages, write_conversation
from alignflow.data.errors import TemplateRefusedError
from alignflow.data.template_memory import remembered
from alignflow.data.token_ids import controls_of, template_ids
from alignflow.data.tool_forms import sample_tool
from alignflow.data.written import Turn, Written, free_mark, shared, write_shielded

EndIn = Callable[[Any, str], int]
"""Where the end of a turn of text stops in what follows the text; 0 for none."""


@dataclass(frozen=True)
class _Marked:
    """A text in which one turn has marks.

    Attributes:
        text: The text.
        first: Where its first mark stands.
        after: Where its last mark stops.
        longer: By how many characters it is longer than the text without marks.
        parted: Where it and the text without marks part.
        met: From where they are the same again.
    """

    text: str
    first: int
    after: int
    longer: int
    parted: int
    met: int


def structured_turn(tokenizer: Any, messages: Messages, index: int, whole: Written, end_in: EndIn) -> Turn:
    """Where the assistant's turn `index` stands in the text of all messages; it stops with its texts where the template writes no end there.

    Raises:
        TemplateRefusedError: the turn cannot be found.
    """
    marked = _marked(tokenizer, messages, index, whole)
    after = marked.text[marked.after :]
    if messages[index].get("tool_calls"):
        closing, end = _end_of_calls(tokenizer, messages[index])
        if not after.startswith(closing):
            raise _refusal("a call of a tool ends otherwise than in a short conversation")
        length = len(end) if after.startswith(end, len(closing)) else 0
    else:
        closing, length = "", end_in(tokenizer, after)
    content_end = marked.after + len(closing)
    start = _start(tokenizer, messages, index, whole, marked.parted)
    if content_end < marked.met or marked.first - start < 0:
        raise _refusal("the texts of a turn stand apart from it")
    return Turn(start, content_end - marked.longer, content_end - marked.longer + length)


def structured_last(
    tokenizer: Any, messages: Messages, whole: Written, end_of_text: str, end_in: EndIn
) -> tuple[Written, Turn]:
    """The text up to the end of the last turn, and where that turn stands; a template may leave the end to the next turn.

    Args:
        tokenizer: The tokenizer.
        messages: The conversation.
        whole: What the template writes for it.
        end_of_text: What ends an answer that is a text.
        end_in: See EndIn.

    Raises:
        TemplateRefusedError: the turn cannot be found.
    """
    turn = structured_turn(tokenizer, messages, len(messages) - 1, whole, end_in)
    if turn.end > turn.content_end:
        return whole, turn
    end = _end_of_calls(tokenizer, messages[-1])[1] if messages[-1].get("tool_calls") else end_of_text
    return whole.before(turn.content_end).followed_by(end), Turn(
        turn.start, turn.content_end, turn.content_end + len(end)
    )


def _marked(tokenizer: Any, messages: Messages, index: int, whole: Written) -> _Marked:
    """The text with marks in the turn `index`, beside the text `whole` without.

    Raises:
        TemplateRefusedError: the template writes nothing of the turn.
    """
    mark = free_mark(messages)
    turns = [_with_marks(turn, mark) if place == index else turn for place, turn in enumerate(messages)]
    text = write_shielded(tokenizer, turns, False).text
    if mark not in text:
        raise _refusal("the template leaves a turn out")
    met = len(text) - shared(text[::-1], whole.text[::-1])
    return _Marked(
        text, text.find(mark), text.rfind(mark) + 1, len(text) - len(whole.text), shared(text, whole.text), met
    )


def _with_marks(turn: Mapping[str, Any], mark: str) -> dict[str, Any]:
    """A turn with marks in the place of its text, its thinking, and the arguments of its calls; names stay, since results may repeat them."""
    found = {**turn, "content": mark if turn["content"] or not turn.get("tool_calls") else ""}
    if turn.get("reasoning_content"):
        found["reasoning_content"] = mark
    if turn.get("tool_calls"):
        found["tool_calls"] = [
            {**call, "function": {**call["function"], "arguments": {mark: mark}}} for call in turn["tool_calls"]
        ]
    return found


def _start(tokenizer: Any, messages: Messages, index: int, whole: Written, parted: int) -> int:
    """Where a turn begins: where the generation prompt ends, or, where the template writes the turn otherwise, where the two part.

    Args:
        tokenizer: The tokenizer.
        messages: The conversation.
        index: The turn.
        whole: The text of all messages.
        parted: A place inside of the turn, after its header.
    """
    prompt = write_shielded(tokenizer, messages[:index], True)
    if whole.text.startswith(prompt.text) and len(prompt.text) <= parted:
        return len(prompt.text)
    before = _marked(tokenizer, messages, index - 1, whole)
    mark = free_mark(messages)
    asked = write_shielded(tokenizer, [*messages[: index - 1], _with_marks(messages[index - 1], mark)], True).text
    tail, gap = asked[asked.rfind(mark) + 1 :], before.text[before.after : parted + before.longer]
    common = shared(tail, gap)
    if common < len(tail):
        ends = [found.end() for found in controls_of(tokenizer).any.finditer(gap) if found.end() <= common]
        common = max([0, *ends, gap.rfind("\n", 0, common) + 1])
    if mark not in asked or not common:
        raise _refusal("the place where an answer begins cannot be found")
    return before.after + common - before.longer


def _end_of_calls(tokenizer: Any, turn: Mapping[str, Any]) -> tuple[str, str]:
    """What the template writes after the last argument of a turn of calls, up to the token that ends the turn, and that token.

    Found once for turns of one kind, in short conversations. Tokens that stand between two calls as well (`</tool_call>`) end none. The
    end stands there whether or not a result follows; where there is none so, it is the first token of the result (GLM).

    Raises:
        TemplateRefusedError: there is none.
    """
    calls = turn["tool_calls"]
    kind = (
        bool(turn["content"]),
        bool(turn.get("reasoning_content")),
        tuple((call["function"]["name"], "id" in call) for call in calls),
    )
    known = remembered(tokenizer).ends
    if kind not in known:
        known[kind] = _look_for_end(tokenizer, turn)
    if not known[kind][1]:
        raise _refusal("no control token ends a call of a tool")
    return known[kind]


def end_of_call_token(tokenizer: Any) -> int | None:
    """Id of the token that ends a turn of calls, which is another than that of an answer in some templates (gpt-oss, GLM); None for no calls."""
    call = {"id": "call00000", "type": "function", "function": {"name": "x", "arguments": {"x": "x"}}}
    try:
        end = _end_of_calls(tokenizer, {"role": "assistant", "content": "", "tool_calls": [call]})[1]
    except TemplateRefusedError:
        return None
    return template_ids(tokenizer, end)[0][-1]


def _look_for_end(tokenizer: Any, turn: Mapping[str, Any]) -> tuple[str, str]:
    mark, said = "\ue0f0", "\ue0f1"
    asked = {"role": "user", "content": "x", "tools": [sample_tool(name) for name in _names(turn)]}
    marked = _with_marks({name: value for name, value in turn.items() if name not in ("weight", "tools")}, mark)
    results = [
        {
            "role": "tool",
            "content": said,
            "name": call["function"]["name"],
            **({"tool_call_id": call["id"]} if "id" in call else {}),
        }
        for call in turn["tool_calls"]
    ]
    last = write_conversation(tokenizer, [asked, marked], False).rpartition(mark)[2]
    middle = _or_none(tokenizer, [asked, marked, *results])
    followed = last if middle is None else middle.rpartition(mark)[2].partition(said)[0]
    between = _between_calls(tokenizer, asked, marked, mark)
    any_control = controls_of(tokenizer).any
    ends = [found for found in any_control.finditer(last) if found.group() not in between]
    always = [found for found in ends if found.end() <= shared(last, followed)]
    if always:
        return last[: always[-1].start()], always[-1].group()
    if ends:
        return last[: ends[0].start()], ends[0].group()
    opening = next((found for found in any_control.finditer(followed) if found.group() not in between), None)
    return (followed[: opening.start()], opening.group()) if opening else ("", "")


def _names(turn: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(call["function"]["name"] for call in turn["tool_calls"]))


def _between_calls(tokenizer: Any, asked: Mapping[str, Any], marked: Mapping[str, Any], mark: str) -> set[str]:
    """The control tokens between two calls of one turn; none where the template takes one call alone."""
    last = marked["tool_calls"][-1]
    twice = [last, {**last, **({"id": "x" * len(last["id"])} if "id" in last else {})}]
    text = _or_none(tokenizer, [asked, {**marked, "content": "", "tool_calls": twice}]) or ""
    pieces = text.split(mark)
    return set(controls_of(tokenizer).any.findall(pieces[len(pieces) // 2])) if len(pieces) > 2 else set()


def _or_none(tokenizer: Any, messages: Messages) -> str | None:
    try:
        return write_conversation(tokenizer, messages, False)
    except TemplateRefusedError:
        return None


def _refusal(why: str) -> TemplateRefusedError:
    return TemplateRefusedError(
        f"the tokens of an answer cannot be told from others: {why}",
        where="chat_template",
        do="set model.chat_template to a Jinja file of your own",
    )
