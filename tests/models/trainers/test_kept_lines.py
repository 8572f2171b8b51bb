"""What a resumed run knows of its curves does not get less by a kill in the instant in which it takes them up."""

import json
from pathlib import Path

import pytest

from alignflow.models.trainers.kept_lines import KeptLines


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


def test_a_kill_while_lines_are_taken_up_loses_none(new_run, monkeypatch):
    run = new_run()
    lines = KeptLines(run, "alarms")
    for step in (1, 2, 3):
        lines.write(step, {"alarm": "kl"})
    write = Path.write_text

    def write_half_then_die(self, text):
        write(self, text[: len(text) // 2])
        raise Killed

    monkeypatch.setattr(Path, "write_text", write_half_then_die)
    with pytest.raises(Killed):
        KeptLines(run, "alarms").forget_after(2)
    monkeypatch.undo()
    assert [line["step"] for line in KeptLines(run, "alarms").forget_after(2)] == [1, 2]
    assert [json.loads(line)["step"] for line in (run.side / "alarms.jsonl").read_text().splitlines()] == [1, 2]
