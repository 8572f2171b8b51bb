"""The best step is kept, found again after a kill, and published where it is wanted; patience ends a training."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from safetensors import safe_open

from alignflow.data.configs.training import AlignConfig, RewardConfig, SFTConfig
from alignflow.models.engines.parts import TensorSlice
from alignflow.models.trainers.held_out import HeldOut


class Counter:
    """An engine whose one weight is the number of steps taken."""

    def __init__(self):
        self.steps = 0.0

    def parts(self):
        return {
            name: TensorSlice(torch.tensor([value]), 0, (1,))
            for name, value in {"weights/w": self.steps, "exp_avg/w": 0.0, "steps": self.steps}.items()
        }

    def load_parts(self, read):
        self.steps = float(read("weights/w", 0, 1))


def config(**fields):
    return SFTConfig(**{"eval_steps": 1, **fields})


def train(run, values, settings, start=0, extra=None):
    """Steps whose held-out losses are `values`, one by one; returns metrics, engine, and the state after each step."""
    engine, states = Counter(), []
    held_out = HeldOut(lambda: {"eval_loss": values[int(engine.steps) - 1]}, engine, settings, run)
    held_out.restore(extra or {})
    for step in range(start, len(values)):
        engine.steps = step + 1.0
        if held_out.due(step + 1, len(values)):
            held_out.evaluate(step + 1)
        states.append(json.loads(json.dumps(held_out.state())))
        if held_out.stopped:
            break
    return held_out.finish(), engine, states


def test_the_last_model_is_published_and_the_best_kept_beside_it(new_run):
    run = new_run()
    metrics, engine, _ = train(run, [3.0, 1.0, 2.0], config())
    assert metrics == {"eval_loss": 2.0, "best_step": 2, "best_eval_loss": 1.0} and engine.steps == 3
    (kept,) = (run.work / "best").iterdir()
    assert kept.name == "step-00000002"
    with safe_open(kept / "weights-00000.safetensors", "pt") as file:
        assert list(file.keys()) == ["weights/w"], "weights alone, no optimizer state"
        assert file.get_tensor("weights/w") == 2


def test_the_best_model_is_published_with_its_own_figures(new_run):
    metrics, engine, _ = train(new_run(), [3.0, 1.0, 2.0], config(load_best_model_at_end=True))
    assert metrics == {"eval_loss": 1.0, "best_step": 2, "best_eval_loss": 1.0} and engine.steps == 2


def test_patience_counts_evaluations_without_a_better_metric(new_run, capsys):
    metrics, engine, _ = train(new_run(), [3.0, 2.0, 2.0, 2.5, 1.0], config(early_stopping_patience=2))
    assert metrics["stopped_at_step"] == 4 and metrics["best_step"] == 2 and engine.steps == 4
    assert "stopped early after step 4" in capsys.readouterr().out


def test_a_training_that_is_not_stopped_says_so(new_run):
    assert train(new_run(), [3.0, 2.0], config(early_stopping_patience=2))[0]["stopped_at_step"] is None


def test_a_value_that_is_not_a_number_is_never_the_best(new_run):
    metrics, _, _ = train(new_run(), [float("nan"), 2.0, float("nan")], config(load_best_model_at_end=True))
    assert metrics["best_step"] == 2 and metrics["best_eval_loss"] == 2.0


def test_without_eval_steps_there_is_one_evaluation_at_the_end_and_no_copy(new_run):
    run = new_run()
    assert train(run, [3.0, 1.0, 2.0], SFTConfig())[0] == {"eval_loss": 2.0}
    assert not (run.work / "best").exists()


def test_without_held_out_rows_the_last_model_is_published_and_that_is_said(new_run):
    run = new_run()
    metrics, engine, _ = train(run, [None, None], config(load_best_model_at_end=True))
    assert engine.steps == 2 and metrics["best_step"] is None and "nothing to evaluate on" in run.warnings[0]


def test_kept_weights_of_another_step_are_not_taken_for_the_best(new_run):
    run, settings = new_run(), config(load_best_model_at_end=True)
    _, _, states = train(run, [3.0, 2.0, 1.0], settings)
    metrics, engine, _ = train(run, [3.0, 2.0, 2.5], settings, 2, states[1])  # goes on a rounding apart
    assert engine.steps == 3 and metrics["eval_loss"] == 2.5 and "the best step was 2" in run.warnings[0]


@settings(max_examples=40, deadline=None)
@given(values=st.lists(st.floats(-5, 5), min_size=1, max_size=8), patience=st.integers(1, 4), cut=st.floats(0, 1))
def test_a_resumed_training_ends_as_an_undisturbed_one(tmp_path_factory, values, patience, cut):
    from alignflow.data.run import Run, Runtime

    root = tmp_path_factory.mktemp("held_out")
    runs = [Run(root, root, root / name, root, Runtime()) for name in ("whole", "killed")]
    wanted = config(early_stopping_patience=patience, load_best_model_at_end=True)
    whole, engine, states = train(runs[0], values, wanted)
    train(runs[1], values, wanted)  # a kill comes late: the best on disk is ahead of the state that is gone back to
    place = int(cut * (len(states) - 1))
    killed, again, _ = train(runs[1], values, wanted, place, states[place - 1] if place else None)
    assert killed == whole and again.steps == engine.steps
    assert whole["best_step"] == values.index(min(values[: len(states)])) + 1


@pytest.mark.parametrize(
    ("kind", "metric", "greater"),
    [
        (SFTConfig, "eval_loss", False),
        (RewardConfig, "eval_accuracy", True),
        (AlignConfig, "eval_rewards/margins", True),
    ],
)
def test_which_way_is_better_follows_from_the_metric(kind, metric, greater):
    assert kind(metric_for_best_model=metric).greater_is_better is greater


@pytest.mark.parametrize(
    "fields",
    [
        {"load_best_model_at_end": True},
        {"early_stopping_patience": 2, "eval_steps": 0},
        {"metric_for_best_model": "eval_accuracy"},
    ],
)
def test_what_cannot_be_is_refused(fields):
    with pytest.raises(ValidationError):
        SFTConfig(**fields)
