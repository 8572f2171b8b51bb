"""Anthropic's hh-rlhf: whole transcripts ("\\n\\nHuman: ...\\n\\nAssistant: ...") in `chosen` and `rejected`."""

from __future__ import annotations

import re

from alignflow.data.sources.base import (
    Messages,
    Row,
    RowError,
    column,
    conversation,
    demonstration,
    parse_with,
    preference,
    prompt_of,
    prompt_row,
)

_TURN = re.compile(r"\n\n(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def parse(row: Row, kind: str) -> list[Row]:
    """Rows of the table `kind`; raises RowError."""
    return parse_with(PARSERS, row, kind)


def turns(transcript: str) -> Messages:
    """A transcript as messages; two turns of one speaker in a row are the data's own slip and join into one."""
    if not isinstance(transcript, str):
        raise RowError("not_text")
    parts = _TURN.split(transcript if transcript.startswith("\n\n") else f"\n\n{transcript.lstrip()}")
    if parts[0].strip() or len(parts) < 3:
        raise RowError("no_transcript")
    messages: Messages = []
    for speaker, said in zip(parts[1::2], parts[2::2], strict=True):
        if messages and messages[-1]["role"] == _ROLES[speaker]:
            messages[-1]["content"] += "\n\n" + said.strip()
        else:
            messages.append({"role": _ROLES[speaker], "content": said.strip()})
    return conversation(messages)


def _preference(row: Row) -> list[Row]:
    chosen, rejected = (demonstration(turns(column(row, side)))["messages"] for side in ("chosen", "rejected"))
    if chosen[:-1] != rejected[:-1]:
        raise RowError("different_prompts")
    return [preference(prompt_of(chosen), chosen[-1]["content"], rejected[-1]["content"])]


PARSERS = {
    "preferences": _preference,
    "demonstrations": lambda row: [demonstration(turns(column(row, "chosen")))],
    "prompts": lambda row: [prompt_row(prompt_of(turns(column(row, "chosen"))), row)],
}
