"""`alignflow judge-data` writes demonstrations of a file of human preferences, and says what it left out."""

import json

from typer.testing import CliRunner

from alignflow.cli.app import app


def test_a_file_of_preferences_becomes_demonstrations(tmp_path):
    rows = [
        {"prompt": f"q{number}", "response_a": "one", "response_b": "two", "human_preference": label}
        for number, label in enumerate(("a", "b", "tie"))
    ]
    (tmp_path / "gold.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    out = tmp_path / "demos.jsonl"
    found = CliRunner().invoke(app, ["judge-data", "--data", str(tmp_path / "gold.jsonl"), "--out", str(out)])
    assert found.exit_code == 0, found.output
    assert "4 demonstrations from 2 pairs" in found.output.replace("\n", " ") and "tie" in found.output
    answers = [json.loads(line)["messages"][-1]["content"] for line in out.read_text().splitlines()]
    assert answers == ["A", "B", "B", "A"]
