"""ShareGPT: `conversations` [{from, value}], and LLaMA-Factory's pairs: `chosen` and `rejected` {from, value} beside them.

Rows with OpenAI's `messages` among them are read, too.
"""

from __future__ import annotations

from alignflow.data.sources.base import Messages, Row, RowError, column, is_blank
from alignflow.data.sources.conversations import answered, demonstration, placed, preference, prompt_of, unpaired
from alignflow.data.sources.labels import label
from alignflow.data.sources.meanings import parse_with
from alignflow.data.sources.prompts import prompt_row
from alignflow.data.sources.transcripts import ROLES, marked_role
from alignflow.data.sources.turns import turn_list


def parse(row: Row, kind: str) -> list[Row]:
    """Rows of the table `kind`; raises RowError."""
    return parse_with(PARSERS, row, kind)


def _turns(row: Row) -> Messages:
    mask = row.get("mask")  # NeMo's: the speaker whose turns are not trained on
    if not is_blank(mask) and (not isinstance(mask, str) or ROLES.get(marked_role(mask)) != "user"):
        raise RowError("unknown_weight")
    return placed(row, turn_list(column(row, "conversations", "conversation", "messages")))


def _preference(row: Row) -> list[Row]:
    turns = _turns(row)
    if turns[-1]["role"] == "assistant":  # an answer already: the conversation must then be the chosen one
        chosen = answered(row, prompt_of(turns), column(row, "chosen"))
        if chosen[-1]["content"].strip() != turns[-1]["content"].strip():
            raise RowError("different_prompts")
    prompt = prompt_of(turns)
    return [preference(*(answered(row, prompt, column(row, side)) for side in ("chosen", "rejected")))]


PARSERS = {
    "demonstrations": lambda row: [demonstration(_turns(row))],
    "prompts": lambda row: [prompt_row(prompt_of(_turns(row)), row)],
    "preferences": _preference,
    "unpaired": lambda row: [unpaired(_turns(row), label(row))],
}
