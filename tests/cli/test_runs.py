"""`alignflow runs`: wide, narrow, piped, sorted, as JSON."""

import json

import pytest
from flow_support import publish_all
from run_support import record_run
from typer.testing import CliRunner

from alignflow.cli.app import app
from alignflow.data.configs.loading import load_recipe
from alignflow.data.errors import StageError, UserError
from alignflow.tasks.store.pins import using
from alignflow.tasks.store.run_records import Asked, recording

METRICS = {
    "evaluate": {"win_rate/helpful": 0.6, "win_rate/helpful/low": 0.5, "win_rate/helpful/high": 0.7, "kl": 2.345},
    "reward": {"eval_accuracy": 0.75},
}
SETTINGS = {"align.options.beta": 0.3, "sft.learning_rate": 0.0001, "label.judge.options.constitution": "reader"}


@pytest.fixture
def runs(store, repository):
    """A run with all figures, and a later one that failed at once."""
    made = publish_all(load_recipe(repository / "recipes" / "tiny.yaml"), store, metrics=METRICS)
    record_run(store, made, "whole", settings=SETTINGS)
    record_run(store, {}, "broken", method="kto", error=StageError("it broke"))


def shown(monkeypatch, *arguments, columns=None):
    monkeypatch.setenv("COLUMNS", str(columns)) if columns else monkeypatch.delenv("COLUMNS", raising=False)
    done = CliRunner().invoke(app, ["runs", *arguments])
    assert done.exit_code == 0, done.exception
    return done.output.splitlines()


def test_into_a_pipe_each_run_is_one_line_newest_first(runs, monkeypatch):
    heading, broken, whole = shown(monkeypatch)
    assert "changed settings" in heading and broken.startswith("broken ") and whole.startswith("whole ")
    assert "align.options.beta=0.3, sft.learning_rate=0.0001, label.judge.options.constitution=reader" in whole
    for figure in ("done", "dpo", "60% [50, 70]", "2.35", "0.75", " kB"):
        assert figure in whole
    assert "failed" in broken and "kto" in broken


def test_what_was_not_measured_is_a_dash_and_null(runs, monkeypatch):
    _, broken, _ = shown(monkeypatch)
    assert broken.count("–") == 5, "settings, win rate, KL, accuracy and size"
    broken, whole = json.loads("\n".join(shown(monkeypatch, "--json")))
    assert broken["win_rate"] is broken["kl"] is broken["reward_accuracy"] is broken["size"] is None
    assert whole["win_rate_low"] == 0.5 and whole["judge"] == "helpful" and whole["settings"] == SETTINGS
    assert broken["error"] == "it broke" and whole["steps"]["align"].startswith("align-")


@pytest.mark.parametrize("columns", [80, 60])
def test_a_narrow_terminal_shows_the_figures_whole_and_the_settings_below(runs, monkeypatch, columns):
    lines = shown(monkeypatch, columns=columns)
    assert all(len(line) <= columns for line in lines)
    text = " ".join(" ".join(lines).split())
    for place, value in SETTINGS.items():
        assert f"{place}={value}" in text
    assert "60% [50, 70]" in text and "2.35" in text and "…" not in text
    assert ("not shown in 60 columns: state, size" in text) is (columns == 60)


def test_a_long_name_goes_on_below(store, monkeypatch):
    record_run(store, {}, "a-name-of-very-many-letters-that-nobody-would-want-to-read")
    lines = shown(monkeypatch, columns=80)
    assert len(lines) > 2 and "".join(line[:24].strip() for line in lines[1:]).startswith("a-name-of-very-many-")


def test_columns_sort_and_what_is_missing_comes_last(runs, monkeypatch):
    assert [row["name"] for row in json.loads("\n".join(shown(monkeypatch, "--json", "--sort", "win_rate")))] == [
        "whole",
        "broken",
    ]
    assert [line.split()[0] for line in shown(monkeypatch, "--sort", "name")[1:]] == ["broken", "whole"]
    refused = CliRunner().invoke(app, ["runs", "--sort", "winrate"])
    assert isinstance(refused.exception, UserError) and "'win_rate'" in str(refused.exception)


def test_a_store_without_runs_says_how_to_make_one(store, monkeypatch):
    assert "alignflow run RECIPE" in shown(monkeypatch)[0]
    assert json.loads(shown(monkeypatch, "--json")[0]) == []


def test_cached_runs_are_one_line_and_json_has_each(store, monkeypatch):
    for _ in range(3):
        with using(store) as pins, recording(store, Asked(name="mine"), pins):
            pass
    heading, line, note = shown(monkeypatch)
    assert line.startswith("mine (+2 cached) ") and "--json shows each" in note
    _, line, below, *_ = shown(monkeypatch, columns=80)
    assert line.startswith("mine ") and below.strip() == "+2 cached", "a narrow terminal has it below the run"
    assert len(json.loads("\n".join(shown(monkeypatch, "--json")))) == 3


def test_html_writes_the_page_and_json_stays_json(runs, store, monkeypatch, tmp_path):
    assert shown(monkeypatch, "--html", str(tmp_path / "page.html")) == [f"wrote {tmp_path / 'page.html'}"]
    assert "whole" in (tmp_path / "page.html").read_text()
    monkeypatch.delenv("COLUMNS", raising=False)
    done = CliRunner().invoke(app, ["runs", "--json", "--html", str(tmp_path / "page.html")])
    assert len(json.loads(done.stdout)) == 2
