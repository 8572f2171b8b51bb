"""A training that does not learn is named, with the figure that says so."""

import pytest

from alignflow.data.report.learning import not_learnt


def curve(losses, accuracies=None, every=1):
    accuracies = accuracies or [None] * len(losses)
    points = []
    for number, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True), start=1):
        points.append({"step": number * every, "loss": loss, "rewards/accuracies": accuracy})
        points.append({"step": number * every, "eval_loss": 9.0})  # an evaluation stands between
    return points


def test_a_loss_that_falls_and_an_accuracy_above_a_half_say_nothing():
    assert not_learnt(curve([0.7, 0.6, 0.5, 0.4], [0.5, 0.6, 0.9, 0.95]), 16) == ""


@pytest.mark.parametrize("losses", [[0.69] * 4, [0.5, 0.6, 0.7, 0.8]])
def test_a_loss_that_does_not_fall_is_told_with_both_figures(losses):
    said = not_learnt(curve(losses), 16)
    assert said == f"the loss did not fall: {losses[0]:.4g} in the first quarter, {losses[-1]:.4g} in the last"


def test_an_accuracy_whose_interval_holds_a_half_is_told_with_its_rows():
    said = not_learnt(curve([4.0, 3.0, 2.0, 1.0], [0.9, 0.9, 0.55, 0.55], every=2), 10)
    assert "last 40 training rows is 0.550 (0.398-0.693), not shown to be above 0.5" in said and "loss" not in said


def test_more_rows_make_the_same_accuracy_enough():
    assert not_learnt(curve([4.0, 3.0, 2.0, 1.0], [0.5, 0.5, 0.55, 0.55], every=100), 10) == ""


def test_both_faults_are_told():
    assert "; the loss did not fall" in not_learnt(curve([1.0, 1.0, 1.0, 1.0], [0.5] * 4), 8)


def test_curves_that_are_too_short_say_nothing():
    assert not_learnt(curve([1.0, 2.0, 3.0]), 8) == not_learnt([], 8) == ""


def labelled(losses, distances):
    points = curve(losses)
    for point, distance in zip(points[::2], distances, strict=True):
        del point["rewards/accuracies"]
        point |= {"rewards/chosen": distance / 2, "rewards/rejected": -distance / 2}
    return points


def test_of_single_answers_the_rewards_must_part_and_the_loss_may_rise():
    assert not_learnt(labelled([0.4, 0.5, 0.5, 0.6], [0.0, 0.1, 0.2, 0.3]), 8) == ""
    said = not_learnt(labelled([0.6, 0.5, 0.5, 0.4], [0.3, 0.2, -0.1, 0.1]), 8)
    assert said == "good answers' rewards are 0 above those of bad ones in the second half"
