"""Lines of JSON beside an artifact that a resumed run continues: what a killed run wrote after its last state is forgotten."""

from __future__ import annotations

import json
import os
from typing import Any

from alignflow.data.run import Run
from alignflow.models.engines import group


class KeptLines:
    """One file, `side/NAME.jsonl`, with a copy in the directory that survives a kill; only the main process writes.

    Args:
        run: Its directories, and who listens to its curves.
        name: `curves`, or any other.
    """

    def __init__(self, run: Run, name: str):
        self._kept, self._shown = run.work / f"{name}.jsonl", run.side / f"{name}.jsonl"
        self._curve = run.curve if name == "curves" else None

    def forget_after(self, step: int) -> list[dict[str, Any]]:
        """Start anew with the killed run's lines up to `step`, and return them."""
        lines = self._kept.read_text().splitlines(keepends=True) if self._kept.exists() else []
        parsed = [json.loads(line) for line in lines if line.endswith("\n")]
        known = [line for line in parsed if line["step"] <= step]
        group.barrier()  # the others have read before it is written anew
        if group.is_main():
            self._kept.parent.mkdir(parents=True, exist_ok=True)
            text = "".join(json.dumps(line) + "\n" for line in known)
            temporary = self._kept.with_suffix(".tmp")  # a kill must not leave less than there was
            temporary.write_text(text)
            os.replace(temporary, self._kept)
            self._shown.write_text(text)
        return known

    def write(self, step: int, content: dict[str, Any]) -> None:
        """Add a line."""
        if not group.is_main():
            return
        if self._curve is not None:
            self._curve(step, content)
        for path in (self._kept,) if self._curve is not None else (self._kept, self._shown):
            with open(path, "a") as file:
                file.write(json.dumps({"step": step, **content}) + "\n")
