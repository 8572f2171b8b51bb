"""A row of weight 2 counts as the same row twice; where nothing weighs, losses are computed as without weights."""

import pytest
import torch
from safetensors.torch import load_file

from alignflow.data.configs.training import AlignConfig, RewardConfig
from alignflow.data.errors import TrainingError
from alignflow.data.records import assistant, user, write_table
from alignflow.models.trainers.offline import train_offline
from alignflow.models.trainers.pairs import read_pairs
from alignflow.models.trainers.reward import train_reward
from alignflow.models.trainers.row_weights import denominators, token_denominators, weighed

STEPS = {"learning_rate": 1e-2, "max_steps": 3, "max_length": 64, "lr_scheduler_type": "constant"}
METHODS = ["dpo", "simpo", "orpo", "ipo", "apo_zero_unpaired"]


def pair(name, text, **columns):
    return {
        "id": name,
        "source": "t",
        "prompt": user(f"the {text}"),
        "chosen": assistant(f"cat {text} mat"),
        "rejected": assistant("dog"),
        "chosen_ended": True,
        "rejected_ended": True,
        **columns,
    }


def data(path, rows):
    write_table(rows, "preferences", path / "train.parquet")
    write_table(rows, "preferences", path / "heldout.parquet")
    return path


TWICE = [pair("a", "hill"), pair("again", "hill"), pair("b", "house")]
WEIGHTED = [pair("a", "hill", weight=2.0), pair("b", "house")]


def trained(kind, base, pairs, rows, run):
    """Metrics and weights of a training whose every step has all rows."""
    if kind.startswith("reward/"):
        config = RewardConfig(loss=kind.removeprefix("reward/"), batch_size=rows, check_rows=2, **STEPS)
        metrics = train_reward(config, base=base, preferences=pairs, run=run)
    else:
        answers = 2 * rows if kind == "apo_zero_unpaired" else rows
        config = AlignConfig(method=kind, sft_coefficient=0.5, batch_size=answers, **STEPS)
        metrics = train_offline(config, policy=base, reference=None, preferences=pairs, run=run)
    return metrics, {name: value for file in run.out.glob("*.safetensors") for name, value in load_file(file).items()}


@pytest.mark.parametrize("kind", [*METHODS, "reward/bradley_terry", "reward/ranking", "reward/binary"])
def test_a_row_of_weight_two_counts_as_the_same_row_twice(kind, tiny_checkpoint, tmp_path, new_run):
    base, rows = tiny_checkpoint, 4 if kind == "reward/binary" else 2
    weighted, own = trained(kind, base, data(tmp_path / "data1", WEIGHTED), rows, new_run("weighted"))
    twice, others = trained(kind, base, data(tmp_path / "data2", TWICE), 3 * rows // 2, new_run("twice"))
    plain = [{**row, "weight": None} for row in WEIGHTED]
    unweighted, _ = trained(kind, base, data(tmp_path / "data3", plain), rows, new_run("plain"))
    assert weighted["loss"] == pytest.approx(twice["loss"], rel=1e-4) != pytest.approx(unweighted["loss"], rel=1e-4)
    assert weighted["eval_loss"] == pytest.approx(twice["eval_loss"], rel=1e-4)
    for name, value in own.items():
        torch.testing.assert_close(value, others[name], rtol=0, atol=2e-4, msg=name)


def test_weights_of_one_are_none_and_leave_the_losses_as_they_are(tiny_checkpoint, tmp_path, new_run):
    ones = data(tmp_path / "ones", [pair("a", "hill", weight=1.0), pair("b", "house")])
    plain = data(tmp_path / "plain", [pair("a", "hill"), pair("b", "house")])
    results = [trained("dpo", tiny_checkpoint, path, 2, new_run(f"run-{path.name}")) for path in (ones, plain)]
    assert results[0][0] == results[1][0]
    assert all(torch.equal(value, results[1][1][name]) for name, value in results[0][1].items())
    values = torch.tensor([1.0, 2.0])
    assert weighed(values, None, [0, 1]) is values
    assert denominators(None, 2) == [1.0, 1.0] and token_denominators(None, [3, 4]) == [3, 4]


@pytest.mark.parametrize("weight", [0.0, -1.0, float("inf")])
def test_a_weight_that_is_not_above_zero_is_refused(weight, tiny_checkpoint, tmp_path, new_run):
    from transformers import AutoTokenizer

    path = data(tmp_path, [pair("a", "hill", weight=weight)]) / "train.parquet"
    with pytest.raises(TrainingError, match="a pair's weight must be above 0"):
        read_pairs(path, AutoTokenizer.from_pretrained(tiny_checkpoint), 64, new_run(), "align")


def test_as_many_weights_as_losses_are_needed():
    with pytest.raises(ValueError, match="2 weights for losses"):
        weighed(torch.ones(1), torch.tensor([1.0, 2.0]), [0, 1])
