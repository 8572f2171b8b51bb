"""Cases of losses: what code does not have makes a case `not here`, never a miss."""

import pytest
import torch

from alignflow.models.cases.base import Arguments, Columns, NotHere, counts, token_statistics

MASK = torch.tensor([[True, False], [True, True], [False, False]])


def test_an_argument_that_nothing_asked_for_is_not_here():
    arguments = Arguments({"beta": 0.3, "extra": 1})
    assert arguments.take(0.1, "beta") == 0.3 and arguments.take(0.5, "tau", "temperature") == 0.5
    with pytest.raises(NotHere, match="argument extra"):
        arguments.check()


def test_a_column_that_is_missing_or_that_nothing_read_is_not_here():
    columns = Columns({"a": torch.ones(1), "b": torch.ones(1)})
    assert columns["a"].item() == 1 and "b" in columns and len(columns) == 2
    with pytest.raises(NotHere, match="b"):
        columns.check()
    with pytest.raises(NotHere, match="c"):
        columns["c"]


def test_figures_under_the_mask_stand_row_after_row():
    found = token_statistics(torch.tensor([[1.0, float("nan")], [2.0, 3.0], [0.0, 0.0]]), MASK)
    assert found.sums().tolist() == [1.0, 5.0, 0.0] and counts(MASK).tolist() == [1, 2, 1]
