"""Where an assistant's turn begins and ends in the text that a chat template writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alignflow.data.chat_templates import Messages, write_conversation
from alignflow.data.errors import ModelError, TemplateRefusedError
from alignflow.data.template_memory import remembered
from alignflow.data.token_ids import controls_of, template_ids
from alignflow.data.tool_turns import end_of_call_token, structured_last, structured_turn
from alignflow.data.tools import is_structured
from alignflow.data.written import Turn, Written, free_mark, shared, write_shielded

ONE_TURN, TWO_TURNS = ("user", "assistant"), ("user", "assistant", "user")


def end_token(tokenizer: Any) -> int:
    """Id of the control token that ends an assistant's turn: the template's, or EOS where it writes none."""
    end = end_text(tokenizer) if tokenizer.chat_template is not None else ""
    return template_ids(tokenizer, end)[0][-1] if end else tokenizer.eos_token_id


def end_tokens(tokenizer: Any) -> list[int]:
    """Ids of the tokens that end an assistant's turn: that of an answer, and that of calls of tools where the template writes another."""
    of_call = end_of_call_token(tokenizer) if tokenizer.chat_template is not None else None
    found = end_token(tokenizer)
    return [found] if of_call in (None, found) else [found, of_call]


def end_text(tokenizer: Any) -> str:
    """What the chat template writes after an assistant's text, up to its first control token; empty where there is none.

    A template that ends a turn by the header of the next one (GLM) is read with a further user turn.
    """
    for roles in (ONE_TURN, TWO_TURNS):
        after = text_after(tokenizer, roles)[1]
        if after and (end := end_in(tokenizer, after)):
            return after[:end]
    return ""


def end_in(tokenizer: Any, after: str) -> int:
    """Where a turn's end stops in the text after its content: behind the first control token, and further ones that end every turn; 0 for none."""
    control = controls_of(tokenizer).any
    found = control.search(after)
    if found is None:
        return 0
    last, middle = (text_after(tokenizer, roles)[1] for roles in (ONE_TURN, TWO_TURNS))
    always = (last or "")[: shared(last or "", last or "" if middle is None else middle)]
    end = found.end()
    while (further := control.match(after, end)) and after[: further.end()] == always[: further.end()]:
        end = further.end()
    return end


def blanks_around(tokenizer: Any) -> tuple[str, str]:
    """The blanks that the template writes between the generation prompt and an answer's text, and between the text and the turn's end."""
    memory = remembered(tokenizer)
    if memory.blanks is None:
        opening, end = _opening(tokenizer), end_text(tokenizer)
        found = controls_of(tokenizer).any.search(end)
        before_end = end[: found.start()] if found else ""
        memory.blanks = ("" if opening.strip() else opening, "" if before_end.strip() else before_end)
    return memory.blanks


def earlier_turns(tokenizer: Any, messages: Messages, places: Sequence[int], whole: Written) -> list[Turn]:
    """Where the assistant turns at `places` stand in the text, all from one text with marks where the template writes contents as they are."""
    if not places:
        return []
    if is_structured(messages):
        return [structured_turn(tokenizer, messages, place, whole, end_in) for place in places]
    mark = free_mark(messages)
    turns = [{**message, "content": mark} if index in places else message for index, message in enumerate(messages)]
    pieces = write_conversation(tokenizer, turns, False).split(mark)
    after = text_after(tokenizer, tuple(str(message["role"]) for message in messages))
    found, at = [], 0
    for number, index in enumerate(places):
        start = at + len(pieces[number]) if len(pieces) == len(places) + 1 else -1
        content = next(
            (
                text
                for text in _forms(messages[index]["content"])
                if start >= 0 and whole.text.startswith(text + pieces[number + 1], start)
            ),
            None,
        )
        lead = (
            None
            if content is None or not whole.text.startswith(pieces[number], at)
            else lead_before(tokenizer, messages, whole.text, start)
        )
        if lead is None:
            return [turn_in(tokenizer, messages, place, whole) for place in places]
        at = start + len(content or "")
        end = end_in(tokenizer, after[index] or "")
        found.append(
            Turn(start - lead, at, at + end if end and whole.text.startswith((after[index] or "")[:end], at) else at)
        )
    return found


def _forms(content: str) -> tuple[str, ...]:
    """A content as templates write it: as it is, without the blanks around it, and without its thinking."""
    answer = content.rpartition("</think>")[2]
    return content, content.strip(), answer, answer.lstrip("\n"), answer.strip()


def lead_before(tokenizer: Any, messages: Messages, text: str, start: int) -> int | None:
    """How many characters before an earlier answer's content, which begins at `start`, the model writes; None where that is not known."""
    prompt = generation_prompt(tokenizer)
    if prompt and text.endswith(prompt, 0, start):
        return 0
    roles = [message["role"] for message in messages]
    turns = roles[roles[0] == "system" :]
    empty = (
        len(turns) < len(roles) and not messages[0]["content"].strip()
    )  # some templates take an empty system turn for none
    if empty or turns != [("user", "assistant")[index % 2] for index in range(len(turns))]:
        return None
    header, lead = _header(tokenizer, roles[0] == "system")
    return lead if header and text.endswith(header, 0, start) else None


def _header(tokenizer: Any, system: bool) -> tuple[str, int]:
    """What the template writes between a question and an earlier answer, and how many of its last characters the model writes.

    They are looked up in a conversation of three exchanges; the text is empty where its earlier turns differ.
    """
    memory = remembered(tokenizer)
    if system not in memory.headers:
        exchanges = [{"role": role, "content": f"x{number}y"} for number, role in enumerate(("user", "assistant") * 3)]
        messages = [*([{"role": "system", "content": "x-y"}] if system else []), *exchanges]
        try:
            whole = write_shielded(tokenizer, messages, False)
            found = {
                _between(
                    whole.text, f"x{number - 1}y", turn_in(tokenizer, messages, number + system, whole), f"x{number}y"
                )
                for number in (1, 3)
            }
        except (TemplateRefusedError, ModelError):
            found = set()
        memory.headers[system] = found.pop() if len(found) == 1 else ("", 0)
    return memory.headers[system]


def _between(text: str, question: str, turn: Turn, answer: str) -> tuple[str, int]:
    start = turn.content_end - len(answer)
    asked = text.rfind(question, 0, start) + len(question)
    return (
        (text[asked:start], start - turn.start)
        if asked <= turn.start <= start and text.startswith(answer, start)
        else ("", 0)
    )


def generation_prompt(tokenizer: Any) -> str:
    """What the template adds after a user's turn for an answer to follow."""
    memory = remembered(tokenizer)
    if memory.prompt is None:
        messages = [{"role": "user", "content": "x"}]
        without, prompt = (write_conversation(tokenizer, messages, flag) for flag in (False, True))
        memory.prompt = prompt.removeprefix(without) if prompt.startswith(without) else ""
    return memory.prompt


def follows(tokenizer: Any, roles: tuple[str, ...]) -> bool:
    """Whether the chat template writes every turn of a conversation of such roles."""
    return None not in text_after(tokenizer, roles)


def opening_ids(tokenizer: Any) -> list[int]:
    """Ids of what the template writes between its generation prompt and an answer's text; mostly none."""
    memory = remembered(tokenizer)
    if memory.opening is None:
        text = _opening(tokenizer)
        memory.opening = template_ids(tokenizer, text)[0] if text.strip() else []
    return memory.opening


def _opening(tokenizer: Any) -> str:
    messages = [{"role": "user", "content": "x"}]
    prompt = write_conversation(tokenizer, messages, True)
    before, _ = _marked(tokenizer, [*messages, {"role": "assistant", "content": "x"}], 1)
    return before.removeprefix(prompt) if before.startswith(prompt) else ""


def last_turn(
    tokenizer: Any, messages: Messages, whole: Written, prompt: Written | None = None
) -> tuple[Written, Turn]:
    """The last turn's place in a text that ends with it, and the text, with the turn's end where the template left that to the next turn."""
    if is_structured(messages):
        return structured_last(tokenizer, messages, whole, end_text(tokenizer) or tokenizer.eos_token, end_in)
    turn = turn_in(tokenizer, messages, len(messages) - 1, whole, prompt)
    if turn.end > turn.content_end:
        return whole, turn
    end = end_text(tokenizer) or tokenizer.eos_token
    return whole.before(turn.content_end).followed_by(end), Turn(
        turn.start, turn.content_end, turn.content_end + len(end)
    )


def turn_in(tokenizer: Any, messages: Messages, index: int, whole: Written, prompt: Written | None = None) -> Turn:
    """Where the assistant's turn `index` stands in the text of all messages."""
    after = text_after(tokenizer, tuple(str(message["role"]) for message in messages))[index]
    marked = None
    if index == len(messages) - 1 and after is not None and whole.text.endswith(after):
        content_end = len(whole.text) - len(after)
    else:
        marked = _marked(tokenizer, messages, index)
        content_end = len(whole.text) - shared(marked[1][::-1], whole.text[::-1])
    end = content_end
    found = end_in(tokenizer, after or "")
    if found and whole.text.startswith((after or "")[:found], content_end):
        end = content_end + found
    prompt = prompt or write_shielded(tokenizer, messages[:index], True)
    if whole.text.startswith(prompt.text) and len(prompt.text) <= content_end:
        return Turn(len(prompt.text), content_end, end)
    return Turn(
        _parting(tokenizer, messages, index, whole, prompt, marked or _marked(tokenizer, messages, index)),
        content_end,
        end,
    )


def _parting(
    tokenizer: Any, messages: Messages, index: int, whole: Written, prompt: Written, marked: tuple[str, str]
) -> int:
    """Where the turn begins whose text the generation prompt is no beginning of: after what both have of the header."""
    content = shared(marked[0], whole.text)
    history = len(write_shielded(tokenizer, messages[:index], False).text) if index else 0
    parted = shared(prompt.text, whole.text)
    if parted < history:
        return content  # the template wrote an earlier turn otherwise, so the two texts cannot be laid side by side
    ends = [found.end() for found in controls_of(tokenizer).any.finditer(whole.text, history) if found.end() <= parted]
    line = whole.text.rfind("\n", history, parted) + 1
    return max([history, *ends, line])


def text_after(tokenizer: Any, roles: tuple[str, ...]) -> list[str | None]:
    """For each turn of a conversation of such roles, the text between its content and the next one's; None where it is not written."""
    memory = remembered(tokenizer)
    if roles not in memory.after:
        marks = [f"{_MARKS[0]}{index}{_MARKS[1]}" for index in range(len(roles))]
        turns = [{"role": role, "content": mark} for role, mark in zip(roles, marks, strict=True)]
        try:
            text = write_conversation(tokenizer, turns, False)
        except TemplateRefusedError:
            text = ""
        after = [text.partition(mark)[2].partition(_MARKS[0])[0] if mark in text else None for mark in marks]
        memory.after[roles] = after
    return memory.after[roles]


_MARKS = ("\ue0f0", "\ue0f1")  # private-use characters: no template has them


def _marked(tokenizer: Any, messages: Messages, index: int) -> tuple[str, str]:
    """What the template writes before and after the content of turn `index`.

    Raises:
        ModelError: it leaves the content out.
    """
    mark = free_mark(messages)
    turns = [{**message, "content": mark} if place == index else message for place, message in enumerate(messages)]
    before, found, after = write_conversation(tokenizer, turns, False).partition(mark)
    if not found:
        raise ModelError(
            "the chat template leaves a message out", where="chat_template", do="set model.chat_template to instruction"
        )
    return before, after
