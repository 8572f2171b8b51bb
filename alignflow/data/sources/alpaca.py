"""Alpaca: `instruction`, an optional `input`, `output`, `system` and `history`; pairs as `chosen` and `rejected` in place of it."""

from __future__ import annotations

from alignflow.data.records import user
from alignflow.data.sources.base import Messages, Row, RowError, column, is_blank, text
from alignflow.data.sources.conversations import (
    answered,
    demonstration,
    placed,
    preference,
    prompt_of,
    prompt_turns,
    unpaired,
)
from alignflow.data.sources.labels import label
from alignflow.data.sources.meanings import parse_with
from alignflow.data.sources.prompts import prompt_row
from alignflow.data.sources.remarks import is_filler


def parse(row: Row, kind: str) -> list[Row]:
    """Rows of the table `kind`; raises RowError."""
    return parse_with(PARSERS, row, kind)


def request(row: Row) -> Messages:
    """The instruction, and its input (Dolly's: `context`) below it where there is one, after the system turn and the history.

    A word for nothing, such as nan or `<noinput>`, is no input.
    """
    instruction = text(column(row, "instruction"))
    given = next((row[name] for name in ("input", "context") if row.get(name) is not None), "")
    given = "" if is_filler(given) else given
    if not isinstance(given, str) and not is_blank(given):
        raise RowError("not_text")
    if isinstance(given, str) and given.strip():
        return placed(row, user(f"{instruction}\n\n{given}"))
    return prompt_turns(row, instruction)


def _answered(row: Row, *names: str) -> Messages:
    return answered(row, request(row), column(row, *names))


PARSERS = {
    "demonstrations": lambda row: [demonstration(_answered(row, "output", "response"))],
    "prompts": lambda row: [prompt_row(prompt_of(request(row)), row)],
    "preferences": lambda row: [preference(_answered(row, "chosen"), _answered(row, "rejected"))],
    "unpaired": lambda row: [unpaired(_answered(row, "output", "response"), label(row))],
}
