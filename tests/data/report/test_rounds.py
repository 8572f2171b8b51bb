"""The table of rounds in the report: a row a round, with the same columns."""

from alignflow.data.report.rounds import rounds_table


def test_each_round_is_a_row_with_its_figures_by_step():
    steps = [
        ("sft", 0, {"loss": 9.0}),
        ("sample", 1, {"tokens/completion_mean": 20.0, "prompts": 4.0}),
        ("align", 1, {"loss": 0.7, "learning_rate": 0.1}),
        ("sample", 2, {"tokens/completion_mean": 22.0}),
        ("evaluate", 2, {"win_rate/rubric": 0.6, "win_rate/rubric/low": 0.5, "kl": 1.5}),
        ("evaluate", 0, {"kl": 1.5}),
    ]
    first, second = rounds_table(steps)
    assert first["round"] == 1 and first["sample tokens/completion_mean"] == 20.0 and first["align loss"] == 0.7
    assert second["evaluate kl"] == 1.5 and second["evaluate win_rate/rubric/low"] == 0.5
    assert first["evaluate kl"] is None and list(first) == list(second)
    assert not any("prompts" in name or "learning_rate" in name for name in first)


def test_a_run_without_rounds_has_no_table():
    assert rounds_table([("align", 0, {"loss": 1.0})]) == []
