"""Runs beside each other: the tables on the terminal, the page, and texts of models."""

import json

import pytest
from cli_support import alignflow
from compared_support import finished_step
from run_support import record_run

from alignflow.cli.compare import _value, columns_table, lines_table, listed, plain
from alignflow.cli.fitting import fits
from alignflow.cli.terminal import Console


@pytest.fixture
def runs(store):
    """Three recorded runs with another beta each; the third has no `reward`."""
    for number, beta in enumerate((0.1, 0.2, 0.3), 1):
        made = {}
        if number < 3:
            accuracy = {"eval_accuracy": 0.5, "eval_pairs": 4.0}
            made["reward"] = finished_step(store.root, "reward", f"reward-{number}", metrics=accuracy).manifest
        curves = [{"step": 1, "loss": beta}, {"step": 2, "loss": beta / 2}]
        more = {"components": {"config.beta": beta}, "config": {"beta": beta}}
        more["inputs"] = {name: manifest.ref() for name, manifest in made.items()}
        made["align"] = finished_step(store.root, "align", f"align-{number}", curves=curves, **more).manifest
        record_run(store, made, f"beta{number}")


def test_several_runs_are_compared_in_tables_and_on_a_page(runs, tmp_path):
    page = tmp_path / "page.html"
    done = alignflow("compare", "beta1", "beta2", "last", "--output", page)
    assert done.returncode == 0, done.stderr
    assert "0.5 n=4" in done.stdout and "beta3 has no step reward" in done.stdout
    assert [line.split() for line in done.stdout.splitlines() if " beta " in line] == [
        ["│", "align", "│", "beta", "│", "0.1", "│", "0.2", "│", "0.3", "│"]
    ]
    assert f"page with the curves: {page}" in done.stdout and page.read_text().count("<svg") == 1


def test_of_two_runs_what_differs_is_told_step_by_step_too(runs, tmp_path):
    tables = alignflow("compare", "beta1", "beta2", "--output", tmp_path / "page.html").stdout
    assert "config.beta 0.1 -> 0.2" in tables


def test_json_has_everything_and_writes_no_page(runs, tmp_path):
    done = alignflow("compare", "beta1", "beta2", "--json", cwd=tmp_path)
    found = json.loads(done.stdout)
    assert found["runs"] == ["beta1", "beta2"] and found["answers"] == [] and found["settings"][0]["setting"] == "beta"
    assert [step["name"] for step in found["steps"]] == ["reward", "align"] and not list(tmp_path.glob("*.html"))


def test_one_run_or_one_that_is_not_there_is_refused(runs):
    assert "name two or more" in alignflow("compare", "last").stderr
    assert alignflow("compare", "last", "report-9").returncode == 2


def test_texts_of_models_are_no_commands_to_the_terminal():
    assert "\x1b" not in plain("a\x1b[31mb") and plain("a[red]b") == "a[red]b"


@pytest.mark.parametrize(("value", "interval", "said"), [(None, None, "–"), (0.61234567, None, "0.6123")])
def test_a_value_that_was_not_measured_is_no_zero(value, interval, said):
    assert _value(value, interval) == said


MANY = [f"quickstart align rate={number}" for number in range(6)]


def test_many_runs_in_a_narrow_terminal_are_a_list_in_which_no_value_is_cut(store, tmp_path):
    long = "answer-in-one-sentence-" * 6
    for number, name in enumerate(MANY):
        more = {"components": {"config.system": f"{long}{number % 2}"}, "config": {}}
        record_run(store, {"align": finished_step(store.root, "align", f"align-{number}", **more).manifest}, name)
    done = alignflow("compare", *MANY, "--output", tmp_path / "page.html", COLUMNS="80")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    start = lines.index("settings that differ:")
    assert lines[start + 1 : start + 4] == [
        "align system",
        f"  {long}0: {', '.join(MANY[::2])}",
        f"  {long}1: {', '.join(MANY[1::2])}",
    ]


def test_few_settings_of_many_runs_are_a_table_with_a_line_for_each_run():
    rows = [("align", "beta", ["0.1", "0.2", "0.3", "0.4", "0.5", "0.6"])]
    narrow = Console(width=80)
    assert not fits(columns_table("settings", rows, MANY), narrow) and fits(lines_table("settings", rows, MANY), narrow)
    with narrow.capture() as printed:
        narrow.print(lines_table("settings", rows, MANY))
    assert "quickstart align rate=5 │ 0.6" in printed.get()


def test_runs_with_the_same_value_stand_behind_it_once():
    assert list(listed("", [("", "torch", ["2", "3", "2"])], ["a", "b", "c"])) == ["torch", "  2: a, c", "  3: b"]
    assert list(listed("", [("sft", "loss", ["1.5", "1.5"])], ["a", "b"])) == ["sft loss", "  1.5: all runs"]
