"""The metrics that are shown of a step, and what became of its rows."""

from types import SimpleNamespace

from alignflow.data.report.metrics import MOST_METRICS, kept_lines, key_metrics, with_intervals


def of(stage, **metrics):
    return SimpleNamespace(stage=stage, metrics={name.replace("__", "/"): value for name, value in metrics.items()})


def test_those_of_the_stage_come_with_their_interval_and_what_was_not_measured_is_left_out():
    found = of("evaluate", other=1.0, kl=None, win_rate=0.625, win_rate__low=0.5, win_rate__high=0.75)
    assert key_metrics("evaluate", found) == ["win_rate 0.625 (0.5 to 0.75)"]


def test_a_stage_without_known_metrics_shows_its_first_ones():
    assert key_metrics("mine", of("mine", **{f"m{number}": 12345.6 for number in range(9)})) == [
        f"m{number} 12,346" for number in range(MOST_METRICS)
    ]


def test_rows_of_each_table_are_said_in_a_line_with_the_reasons():
    found = of(
        "prepare", prompts__kept=8, prompts__dropped=2, prompts__dropped__empty=2, texts__kept=1, texts__dropped=3
    )
    assert kept_lines(found) == ["prompts: kept 8 of 10: 2 empty", "texts: kept 1 of 4: 3 dropped"]
    assert kept_lines(of("sft", prompts__kept=8)) == []


def test_all_metrics_have_their_interval_behind_them():
    metrics = {"kl": 0.5, "rate": 0.625, "rate/low": 0.5, "rate/high": 0.75, "prices/low": 3.0, "none": None}
    assert with_intervals(metrics) == {"kl": "0.5", "rate": "0.625 (0.5 to 0.75)", "prices/low": "3", "none": "–"}
