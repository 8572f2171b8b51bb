"""A loss of the user's own trains as a method of the catalogue does."""

import json

import pytest
import torch
from safetensors.torch import load_file

from alignflow.data.configs.training import AlignConfig
from alignflow.data.errors import RecipeError, TrainingError
from alignflow.models.trainers.align import align

FILE = """
from torch.nn.functional import logsigmoid
from alignflow.models.losses import LossOutput, StageConfig, method, pair_metrics

class Options(StageConfig):
    beta: float = 0.1

@method(family="pairs", options=Options{more})
def mine(batch, options):
    rho_w, rho_l = batch.logratios()
    rewards = options.beta * rho_w, options.beta * rho_l
    return LossOutput({loss}, pair_metrics(batch, *rewards))
"""
DPO = "-logsigmoid(rewards[0] - rewards[1])"


@pytest.fixture
def config(tmp_path):
    """An alignment by a loss of the user's own."""

    def of(loss=DPO, more="", **changes):
        (tmp_path / "mine.py").write_text(FILE.format(loss=loss, more=more))
        settings = {"learning_rate": 5e-3, "max_steps": 8, "batch_size": 16, "max_length": 64, "logging_steps": 1}
        return AlignConfig(method=f"{tmp_path / 'mine.py'}:mine", **{**settings, **changes})

    return of


def test_dpo_written_by_the_user_gives_the_weights_of_dpo_to_the_bit(config, new_run, tiny_checkpoint, preferences):
    mine, known = new_run("mine"), new_run("known")
    found = align(config(options={"beta": 0.2}), policy=tiny_checkpoint, preferences=preferences, run=mine)
    same = config(options={"beta": 0.2}).model_copy(update={"method": "dpo"})
    assert found == align(same, policy=tiny_checkpoint, preferences=preferences, run=known)
    assert found["eval_rewards/accuracies"] == 1.0
    own, other = (load_file(run.out / "model.safetensors") for run in (mine, known))
    assert all(torch.equal(own[name], other[name]) for name in other)
    card = (mine.out / "README.md").read_text()
    assert "mine.py:mine" in card and str(mine.out.parent.parent) not in card, "a path would change the digest"


def test_its_reference_is_checked_at_the_start(config, new_run, tiny_checkpoint, preferences, monkeypatch):
    from alignflow.models.trainers import offline

    scored = offline.own_scores

    def wrong(*arguments):
        found = scored(*arguments)
        for side in found.values():
            side.sums.add_(1.0)
        return found

    monkeypatch.setattr(offline, "own_scores", wrong)
    with pytest.raises(TrainingError, match="log-ratios are"):
        align(config(), policy=tiny_checkpoint, preferences=preferences, run=new_run())


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        ("(rho_w - rho_l) / 0 * 0", "not finite|nan"),
        ("(rho_w - rho_l).mean()", "shape"),
    ],
)
def test_a_loss_that_is_not_finite_or_of_another_shape_ends_the_training(
    loss, words, config, new_run, tiny_checkpoint, preferences
):
    with pytest.raises(TrainingError, match=words):
        align(config(loss), policy=tiny_checkpoint, preferences=preferences, run=new_run())


def test_wrong_options_are_refused_before_a_model_is_loaded(config, new_run, tmp_path):
    with pytest.raises(RecipeError, match="align.options"):
        align(config(options={"betta": 1.0}), policy=tmp_path, preferences=tmp_path, run=new_run())


def test_a_function_of_the_same_file_makes_the_figures_of_whole_steps(config, new_run, tiny_checkpoint, preferences):
    run = new_run()
    found = config("batch.chosen.step['half'] * " + DPO, more=', whole_step="of_step", step_reads="labels"')
    with open(found.method.rpartition(":")[0], "a") as file:
        file.write(
            "\ndef of_step(answers, options, state, training):\n    return {'half': answers.logps.new_tensor(0.5)}, state\n"
        )
    align(found, policy=tiny_checkpoint, preferences=preferences, run=run)
    first = json.loads((run.side / "curves.jsonl").read_text().splitlines()[0])
    assert first["half"] == 0.5 and first["loss"] == pytest.approx(0.5 * 0.693147, rel=1e-4)
