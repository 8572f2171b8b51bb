"""Figures of a whole step find the rows of a micro-batch."""

import pytest
import torch

from alignflow.models.trainers.whole_step import _placed


def test_figures_per_row_go_by_the_rows_and_scalars_stay():
    of = _placed({"beta": torch.tensor(0.1), "weight": torch.tensor([0.0, 2.0, 1.0])}, [7, 3, 5])
    found = of([5, 7])
    assert found["beta"] == pytest.approx(0.1) and found["weight"].tolist() == [1.0, 0.0]


def test_the_weights_of_a_row_that_a_step_has_twice_keep_their_sum():
    """A step across the end of an epoch: beta-DPO may keep one of the two and leave the other out."""
    rows, weight = [4, 9, 4, 2], torch.tensor([0.0, 1.5, 1.5, 1.0])
    of = _placed({"weight": weight}, rows)
    assert of(rows)["weight"].tolist() == [0.75, 1.5, 0.75, 1.0] and float(of(rows)["weight"].sum()) == float(weight.sum())
