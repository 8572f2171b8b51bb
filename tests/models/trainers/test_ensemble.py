"""Reward models become one: members are named, held-out rows measure the one score and where members disagree; members differ by their seed."""

from itertools import pairwise

import pytest
import torch
from tests_support import as_artifact
from tiny_model import make_reward_model

from alignflow.data.configs.training import LoRAConfig, RewardConfig, RewardEnsembleConfig
from alignflow.data.errors import ModelError
from alignflow.data.records import assistant, user, write_table
from alignflow.data.reward_ensembles import read_ensemble
from alignflow.data.run import Runtime
from alignflow.models.reward_ensemble import RewardEnsemble, load_scorer
from alignflow.models.reward_model import load_reward_model, save_reward_model
from alignflow.models.rewards.ensemble_scores import aggregate_scores
from alignflow.models.trainers.ensemble import make_ensemble
from alignflow.models.trainers.reward import bootstrap_sample, train_reward

WORDS = ["cat", "dog", "bird", "house", "hill", "rain", "mat"]
ANSWERS = [(user(f"the {word}"), f"{first} {word}", True) for word in WORDS for first in ("cat", "dog")]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Fourteen pairs to learn from and to be asked about: an answer with `cat` is better than one with `dog`."""
    rows = [
        {
            "id": f"p{number}",
            "source": "t",
            "prompt": user(f"the {word}"),
            "chosen": assistant(f"cat {word}"),
            "chosen_ended": True,
            "rejected": assistant(f"dog {word}"),
            "rejected_ended": True,
        }
        for number, word in enumerate(WORDS * 2)
    ]
    directory = tmp_path_factory.mktemp("pairs")
    for side in ("train", "heldout"):
        write_table(rows, "preferences", directory / f"{side}.parquet")
    return directory


@pytest.fixture(scope="module")
def members(tiny_checkpoint, tmp_path_factory):
    """Three reward models of a store, by step."""
    root = tmp_path_factory.mktemp("members")
    for seed in (1, 2, 3):
        (root / str(seed)).mkdir()
        save_reward_model(make_reward_model(tiny_checkpoint, seed), root / str(seed), ANSWERS[:2], {"Model": "a test"})
    return {f"reward.{seed}": as_artifact(root / str(seed), root / "store", f"reward-{seed}") for seed in (1, 2, 3)}


def scores_of(places):
    """(members, answers) of the held-out answers."""
    return torch.tensor([load_reward_model(place, Runtime()).score(ANSWERS) for place in places], dtype=torch.float64)


@pytest.mark.parametrize("aggregate", ["mean", "min", "uncertainty"])
def test_the_ensembles_figures_are_those_of_its_combined_score(aggregate, members, pairs, new_run):
    run = new_run()
    config = RewardEnsembleConfig(aggregate=aggregate, uncertainty_weight=0.7, reward=RewardConfig(max_length=64))
    metrics = make_ensemble(config, members=members, preferences=pairs, run=run)
    scores = scores_of(members.values())
    combined = aggregate_scores(scores, aggregate, 0.7)
    margins = combined[0::2] - combined[1::2]
    assert metrics["members"] == 3 and metrics["eval_pairs"] == 14
    assert metrics["eval_accuracy"] == pytest.approx(float((margins > 0).double().mean()))
    assert metrics["eval_margin"] == pytest.approx(float(margins.mean()), abs=1e-5)
    assert metrics["disagreement"] == pytest.approx(float(scores.std(0, correction=0).mean()), abs=1e-5)
    assert metrics["disagreement/members"] == pytest.approx(float(scores.mean(1).std(correction=0)), abs=1e-5)


def test_what_is_written_loads_with_the_members_in_their_order(members, new_run):
    run = new_run()
    config = RewardEnsembleConfig(aggregate="uncertainty", uncertainty_weight=0.3)
    assert make_ensemble(config, members=members, run=run) == {"members": 3.0}, "without data nothing is measured"
    kept = as_artifact(run.out, members["reward.1"].parents[2], f"reward_ensemble-{id(run)}", "reward_model")
    assert read_ensemble(kept).members == tuple(members.values())
    found = load_scorer(kept, Runtime()).score(ANSWERS)
    wanted = aggregate_scores(scores_of(members.values()), "uncertainty", 0.3)
    assert found == pytest.approx(wanted.tolist(), abs=1e-6)


def test_a_member_that_cannot_be_loaded_is_found_here(members, tmp_path, new_run):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ModelError):
        make_ensemble(RewardEnsembleConfig(), members={**members, "reward.4": tmp_path}, run=new_run())


@pytest.mark.parametrize(("aggregate", "warned"), [("mean", False), ("min", True), ("uncertainty", True)])
def test_a_constant_that_decides_about_the_minimum_is_told(aggregate, warned, members, pairs, new_run, monkeypatch):
    """A constant in a member's scores changes none of its margins."""
    packed, constants = RewardEnsemble.members_packed, torch.tensor([[0.0], [40.0], [80.0]])
    monkeypatch.setattr(RewardEnsemble, "members_packed", lambda self, rows: packed(self, rows) + constants)
    run = new_run()
    config = RewardEnsembleConfig(aggregate=aggregate, reward=RewardConfig(max_length=64))
    metrics = make_ensemble(config, members=members, preferences=pairs, run=run)
    assert metrics["disagreement/members"] > 30
    assert any("center_rewards_coefficient" in warning for warning in run.warnings) == warned


STEPS = {"learning_rate": 5e-3, "max_steps": 6, "batch_size": 4, "max_length": 64, "check_rows": 2}


@pytest.mark.parametrize("fields", [{}, {"bootstrap": True}, {"lora": LoRAConfig(r=2), "learning_rate": 5e-2}])
def test_members_of_other_seeds_score_otherwise_and_of_the_same_seed_alike(
    fields, tiny_checkpoint, pairs, new_run, tmp_path
):
    if "lora" in fields:
        pytest.importorskip("peft")
    base = as_artifact(tiny_checkpoint, tmp_path / "store", "init-1")
    found = []
    for number, seed in enumerate((0, 0, 15_485_863)):
        run = new_run(f"member{number}")
        train_reward(RewardConfig(**{**STEPS, **fields, "seed": seed}), base=base, preferences=pairs, run=run)
        kept = as_artifact(run.out, tmp_path / "store", f"reward-{number}", "reward_model")
        found.append(torch.tensor(load_reward_model(kept, Runtime()).score(ANSWERS)))
    assert torch.equal(found[0], found[1])
    assert (found[0] - found[2]).abs().max() > 1e-4


def test_a_bootstrap_sample_is_drawn_with_replacement_by_the_seed():
    drawn = bootstrap_sample(10_000, 0)
    assert len(drawn) == 10_000 and set(drawn) <= set(range(10_000)) and drawn == bootstrap_sample(10_000, 0)
    assert abs(len(set(drawn)) / 10_000 - 0.632) < 0.02, "1 - 1/e of the rows are in it"
    assert all(one != other for one, other in pairwise(bootstrap_sample(100, seed) for seed in range(5)))
