"""Alarms ring when, and only when, their condition holds."""

import math

import pytest

from alignflow.data.configs.watched import AlarmOptions
from alignflow.models.trainers.alarms import RULES, ringing

OPTIONS = AlarmOptions(
    window=2, kl_limit=10.0, standard_errors=2.0, length_factor=2.0, repetition_rise=0.2, entropy_share=0.25
)
CALM = {
    "kl": 1.0,
    "scores": 0.5,
    "scores_error": 0.01,
    "heldout": 0.5,
    "heldout_error": 0.01,
    "length": 30.0,
    "repetition": 0.1,
    "entropy": 2.0,
}


def history(*changes):
    return [{**CALM, **change} for change in changes]


def names(*changes, options=OPTIONS):
    return [alarm.name for alarm in ringing(history(*changes), options)]


def test_a_calm_run_is_silent():
    assert names(*[{}] * 8) == []


@pytest.mark.parametrize(
    ("name", "late"),
    [
        ("kl", {"kl": 10.1}),
        ("length", {"length": 61.0}),
        ("length", {"length": 14.0}),
        ("repetition", {"repetition": 0.31}),
        ("entropy", {"entropy": 0.49}),
        ("reward_hacking", {"scores": 0.7, "heldout": 0.4}),
    ],
)
def test_each_rule_rings_for_its_drift(name, late):
    assert names({}, {}, late, late) == [name]


@pytest.mark.parametrize(
    "late",
    [
        {"kl": 10.0},
        {"length": 60.0},
        {"length": 15.0},
        {"repetition": 0.3},
        {"entropy": 0.5},
        {"scores": 0.7},
        {"heldout": 0.4},
        {"scores": 0.4, "heldout": 0.4},
        {"scores": 0.51, "heldout": 0.49},
    ],
)
def test_no_rule_rings_at_its_limit_or_for_half_of_its_condition(late):
    assert names({}, {}, late, late) == []


def test_windows_do_not_overlap():
    assert names({}, {"length": 100.0}, {"length": 100.0}) == []


def test_the_fall_counts_from_the_held_out_judges_best_window():
    rise = {"heldout": 0.8, "scores": 0.9}
    assert names({}, {}, rise, rise, {"heldout": 0.7, "scores": 1.2}, {"heldout": 0.7, "scores": 1.2}) == [
        "reward_hacking"
    ]


def test_without_a_held_out_judge_nothing_is_compared_with_it():
    late = {"scores": 0.9, "heldout": None}
    assert names(*[{"heldout": None}] * 2, late, late) == []


def test_figures_without_an_error_are_compared_as_they_are():
    exact = {"scores_error": None, "heldout_error": 0.0}
    assert names(exact, exact, {**exact, "scores": 0.6, "heldout": 0.4}, {**exact, "scores": 0.6, "heldout": 0.4}) == [
        "reward_hacking"
    ]


@pytest.mark.parametrize("name", list(RULES))
def test_an_alarm_carries_its_numbers(name):
    late = {
        "kl": 99.0,
        "length": 99.0,
        "repetition": 0.9,
        "entropy": 0.01,
        "scores": 0.9,
        "heldout": 0.1,
        "zero_std": 1.0,
    }
    alarm = next(alarm for alarm in ringing(history({}, {}, late, late), OPTIONS) if alarm.name == name)
    assert alarm.text and all(math.isfinite(value) for value in alarm.figures.values())


def test_zero_variance_rings_over_a_whole_window():
    """Once nearly no prompt has answers of different scores; one update of a window of two says nothing."""
    assert names({"zero_std": 1.0}) == names({}, {}) == names({"zero_std": 0.5}, {"zero_std": 1.0}) == []
    assert names({"zero_std": 1.0}, {"zero_std": 0.9}) == ["zero_variance"]


def test_an_update_without_a_score_of_the_held_out_judge_does_not_silence_the_alarm():
    changes = [{"scores": number / 10, "heldout": -number / 10} for number in range(6)]
    assert names(*changes) == ["reward_hacking"]
    for place in (0, 3, 6):
        assert names(*changes[:place], {"heldout": None}, *changes[place:]) == ["reward_hacking"]
