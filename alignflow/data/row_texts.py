"""The texts of a row of any table."""

from __future__ import annotations

from typing import Any

from alignflow.data.records import normalise_text, prompt_text, up_to_question
from alignflow.data.tools import AS_JSON, without_tools

Row = dict[str, Any]


def answer_texts(row: Row) -> list[str]:
    """All answers of a row, as texts."""
    sides = [row[side] for side in ("chosen", "rejected", "completion") if side in row]
    return [turns[-1]["content"] for turns in sides] + list(row.get("completions", ()))


def prompt_messages(row: Row) -> list[dict[str, str]]:
    """The conversation that a row's answer, or answers, reply to."""
    turns: list[dict[str, str]] = row["messages"][:-1] if "messages" in row else row["prompt"]
    return turns


def row_text(row: Row) -> str:
    """All text of a row."""
    if "text" in row:
        text: str = row["text"]
        return text
    if "messages" in row:
        return prompt_text(row["messages"])
    return "\n".join([prompt_text(row["prompt"]), *answer_texts(row)])


def text_in_any_order(row: Row, normal: str) -> str:
    """What two rows of one table share if they hold the same texts: pairs and rankings count as the same whatever the order of their answers.

    Args:
        row: The row.
        normal: Its `row_text` in the normal form, which is the result for a row with one answer or none.
    """
    answers = answer_texts(row)
    if len(answers) < 2:
        return normal
    return "\n".join([normalise_text(prompt_text(row["prompt"])), *sorted(map(normalise_text, answers))])


def without_system(row: Row) -> str | None:
    """All text of a row but its system turns and the tools that it may use; None where it has neither."""
    name = next((name for name in ("messages", "prompt") if name in row), "")
    turns = row.get(name) or ()
    if not any(turn["role"] == "system" or "tools" in turn for turn in turns):
        return None
    return row_text({**row, name: without_tools([turn for turn in turns if turn["role"] != "system"])})


def asked_texts(prompt: list[dict[str, Any]], *, earlier: bool) -> list[str]:
    """What a prompt asks, one text for each turn: its last user turn, and the results of tools that follow it.

    Tools and calls of them are left out: rows that use one tool share the words of its name and arguments.

    Args:
        prompt: Turns up to one of a user or a tool.
        earlier: Whether the user turns before the last one are given, too.
    """
    last = len(up_to_question(prompt)) - 1
    asked = [turn for place, turn in enumerate(prompt) if place >= last or (earlier and turn["role"] == "user")]
    return [
        prompt_text([{name: value for name, value in turn.items() if name != AS_JSON}]) for turn in without_tools(asked)
    ]


def questions(prompt: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The conversation up to each of its user turns; a prompt without one is its own."""
    return [prompt[:place] for place, turn in enumerate(prompt, 1) if turn["role"] == "user"] or [prompt]


def word_ngrams(text: str, size: int) -> list[str]:
    """All runs of `size` lower-case words; none for size 0."""
    words = normalise_text(text).split()
    return [" ".join(words[start : start + size]) for start in range(len(words) - size + 1)] if size else []


def is_far_too_long(row: Row, bound: int) -> bool:
    """Whether a row is over-long by its bytes alone, so that it is dropped before anything is done that takes time and memory for it.

    Only rows are that are over-long in tokens as well: a text has more bytes than `bound` (byte_bounds.longest_bytes), the blanks at
    its ends and an answer's thinking not counted, since a chat template may leave both out.
    """
    return "text" not in row and any(_longer(text.rpartition("</think>")[2].strip(), bound) for text in _texts(row))


def _texts(row: Row) -> list[str]:
    return [message["content"] for message in row["messages" if "messages" in row else "prompt"]] + answer_texts(row)


def _longer(text: str, size: int) -> bool:
    """Whether a text has more bytes than `size` in UTF-8, told without encoding a short one: a character has 4 at most."""
    return len(text) > size or (4 * len(text) > size and len(text.encode("utf-8", "surrogatepass")) > size)
