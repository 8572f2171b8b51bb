"""A suspended run is one line, and so are repeated runs that found everything."""

import pytest

from alignflow.tasks.store.folded_runs import folded
from alignflow.tasks.store.run_rows import RunRow


def row(date, state="cached", **fields):
    measured = dict.fromkeys(
        ("win_rate", "win_rate_low", "win_rate_high", "judge", "kl", "reward_accuracy", "size", "error", "method")
    )
    given = {
        "name": "mine",
        "settings": {},
        "smoke": False,
        "recipe": "mine.yaml",
        "steps": {"sft": "sft-1"},
        "seconds": 1.0,
    }
    return RunRow(date=date, state=state, **{**measured, **given, **fields})


def lines(*rows):
    return [(line.row.date, line.row.state, line.cached) for line in folded(rows)]


def test_cached_runs_of_the_same_recipe_stand_behind_the_newest_of_them():
    assert lines(row("4"), row("3"), row("2"), row("1", "done")) == [("4", "cached", 2), ("1", "done", 0)]


@pytest.mark.parametrize(
    "other",
    [
        {"name": "yours"},
        {"recipe": "yours.yaml"},
        {"smoke": True},
        {"settings": {"seed": 1}},
        {"steps": {"sft": "sft-2"}},
        {"state": "failed"},
        {"state": "done"},
    ],
)
def test_a_run_that_differs_has_a_line_of_its_own(other):
    assert [cached for _, _, cached in lines(row("2"), row("1", **other))] == [0, 0]


def test_a_run_that_a_gate_suspended_is_one_run_which_began_when_it_first_began():
    (line,) = folded([row("3", "done", flow_run="f", seconds=5.0), row("1", "waits", flow_run="f", seconds=2.0)])
    assert (line.row.date, line.row.state, line.row.seconds) == ("1", "done", 7.0)


def test_it_stands_among_the_others_by_that_time():
    suspended = row("3", "done", flow_run="f"), row("1", "waits", flow_run="f")
    assert lines(suspended[0], row("2", "failed"), suspended[1]) == [("2", "failed", 0), ("1", "done", 0)]


def test_runs_without_a_flow_run_are_not_taken_for_one():
    assert len(folded([row("2", "done"), row("1", "waits")])) == 2


@pytest.mark.parametrize("other", [{"settings": {"seed": 2}}, {"name": "yours"}, {"recipe": "yours.yaml"}])
@pytest.mark.parametrize("state", ["done", "waits"])
def test_members_of_a_sweep_share_its_flow_run_and_have_a_line_each(other, state):
    assert len(folded([row("2", "done", flow_run="f"), row("1", state, flow_run="f", **other)])) == 2


def test_a_run_that_did_not_wait_has_a_line_of_its_own():
    rows = row("3", "done", flow_run="f"), row("2", "failed", flow_run="f"), row("1", "waits", flow_run="f")
    assert lines(*rows) == [("3", "done", 0), ("1", "failed", 0)]
