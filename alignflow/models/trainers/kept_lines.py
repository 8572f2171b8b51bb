"""Lines of JSON in side/ that a resumed run continues: lines of a killed run after its last state are dropped."""

from __future__ import annotations

import json
import os
from typing import Any

from alignflow.data.artifacts import text_digest
from alignflow.data.run import Run
from alignflow.models.engines import group

MARK = 16  # digits of a line's digest


class KeptLines:
    """One file, `side/NAME.jsonl`, with a copy in the directory that survives a kill; only the main process writes.

    Args:
        run: Its directories, and the listeners of its curves.
        name: `curves`, or any other.
    """

    def __init__(self, run: Run, name: str):
        self._kept, self._shown = run.work / f"{name}.jsonl", run.side / f"{name}.jsonl"
        self._curve = run.curve if name == "curves" else None
        self._note = run.note if run.main else lambda text: None

    def forget_after(self, step: int) -> list[dict[str, Any]]:
        """Start with the killed run's lines up to `step`, and return them."""
        lines = self._kept.read_bytes().splitlines(keepends=True) if self._kept.exists() else []
        parsed = [_parsed(line) for line in lines if line.endswith(b"\n")]
        if damaged := sum(line is None for line in parsed):
            self._note(
                f"{damaged} lines of {self._shown.name} were damaged on disk, and are dropped: no result depends on them"
            )
        known = [line for line in parsed if line is not None and line["step"] <= step]
        group.barrier()  # the other processes must read it before it is rewritten
        if group.is_main():
            self._kept.parent.mkdir(parents=True, exist_ok=True)
            text = "".join(json.dumps(line) + "\n" for line in known)
            temporary = self._kept.with_suffix(".tmp")  # a kill must not lose lines
            temporary.write_text("".join(_marked(json.dumps(line)) for line in known))
            os.replace(temporary, self._kept)
            self._shown.write_text(text)
        return known

    def write(self, step: int, content: dict[str, Any]) -> None:
        """Add a line."""
        if not group.is_main():
            return
        if self._curve is not None:
            self._curve(step, content)
        line = json.dumps({"step": step, **content})
        with open(self._kept, "a") as file:
            file.write(_marked(line))
        if self._curve is None:
            with open(self._shown, "a") as file:
                file.write(line + "\n")


def _marked(line: str) -> str:
    """A line with its digest in front."""
    return f"{text_digest(line)[:MARK]} {line}\n"


def _parsed(line: bytes) -> dict[str, Any] | None:
    """The content of a line, None if its bytes changed; a line of an older alignflow has no digest, and starts with a brace."""
    try:
        text = line.decode().removesuffix("\n")
        if not text.startswith("{"):
            mark, _, text = text.partition(" ")
            if mark != text_digest(text)[:MARK]:
                return None
        found = json.loads(text)
        return found if isinstance(found["step"], int) else None
    except (ValueError, KeyError, TypeError):
        return None
