"""Figures of a whole step find the rows of a micro-batch."""

import pytest
import torch

from alignflow.data import catalogue
from alignflow.data.run import Runtime
from alignflow.models.policy import load_policy
from alignflow.models.trainers.answer_batches import Answers
from alignflow.models.trainers.offline_rows import read_halves, read_paired
from alignflow.models.trainers.reference_scores import Scores
from alignflow.models.trainers.whole_step import StepFigures, _placed


def test_figures_per_row_go_by_the_rows_and_scalars_stay():
    of = _placed({"beta": torch.tensor(0.1), "weight": torch.tensor([0.0, 2.0, 1.0])}, [7, 3, 5])
    found = of([5, 7])
    assert found["beta"] == pytest.approx(0.1) and found["weight"].tolist() == [1.0, 0.0]


def test_the_weights_of_a_row_that_a_step_has_twice_keep_their_sum():
    """A step across the end of an epoch: beta-DPO may keep one of the two and leave the other out."""
    rows, weight = [4, 9, 4, 2], torch.tensor([0.0, 1.5, 1.5, 1.0])
    of = _placed({"weight": weight}, rows)
    assert of(rows)["weight"].tolist() == [0.75, 1.5, 0.75, 1.0] and float(of(rows)["weight"].sum()) == float(
        weight.sum()
    )


@pytest.mark.parametrize(("method", "read", "name"), [("bco", read_halves, "delta"), ("beta_dpo", read_paired, "beta")])
def test_held_out_rows_cost_no_pass_where_their_figures_are_those_of_training(
    method, read, name, preferences, tiny_checkpoint, new_run, monkeypatch
):
    policy, run, row = load_policy(tiny_checkpoint, Runtime()), new_run(), catalogue.METHODS[method]
    rows = read(preferences / "heldout.parquet", policy.tokenizer, 64, run, "align")
    side = Answers(policy, rows, Scores(torch.full((len(rows.answers),), -9.0)))
    figures = StepFigures(row, row.options(), {"train": side, "heldout": side}, 0, run)
    shown = figures.before([0, 1, 2])[name]
    monkeypatch.setattr(policy, "token_statistics", None)
    found = float(figures.held_out()([4])[name])
    assert found == pytest.approx(shown[0] if method == "bco" else row.options().beta) and found != 0
