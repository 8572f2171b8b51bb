"""Each loss of a reward model learns its kind of data, from the table that it takes and from what stands in for it."""

import json
import math
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from alignflow.data import catalogue
from alignflow.data.configs.reward_losses import REWARD_LOSSES
from alignflow.data.configs.training import GREATER_IS_BETTER, RewardConfig
from alignflow.data.errors import TrainingError
from alignflow.data.intervals import wilson
from alignflow.data.records import assistant, read_table, user, write_table
from alignflow.data.run import Runtime
from alignflow.models.losses.base import LossOutput
from alignflow.models.losses.lists import make_lists
from alignflow.models.reward_model import build_reward_model, load_reward_model
from alignflow.models.trainers.offline_rows import read_rankings
from alignflow.models.trainers.reward import evaluate_reward, pearson, train_reward
from alignflow.models.trainers.reward_rows import RewardRows, check_rows, read_reward_rows, strict_pairs

WORDS = ["cat", "dog", "bird", "house", "hill", "rain", "mat"]
STEPS = {
    "learning_rate": 5e-3,
    "max_steps": 24,
    "batch_size": 16,
    "max_length": 64,
    "logging_steps": 1,
    "check_rows": 4,
}
CASES = [(loss, kind) for loss, row in REWARD_LOSSES.items() for kind in row.kinds]
GOOD, BAD = ("cat", "dog")


@pytest.fixture(scope="module")
def sixteen(tmp_path_factory):
    """Sixteen rows of each kind, to learn from and to be asked about: answers with `cat` are better than those with `dog`."""
    root, prompts = tmp_path_factory.mktemp("sixteen"), [user(f"the {word}") for word in (WORDS * 3)[:16]]
    rankings = [
        {
            "id": f"r{i}",
            "source": "t",
            "prompt": prompt,
            "scores": [2.0, 0.5, -1.0],
            "ended": [True, i % 2 == 0, True],
            "completions": [f"{first} {WORDS[i % 5]}" for first in ("cat", "bird", "dog")],
        }
        for i, prompt in enumerate(prompts)
    ]
    preferences = [
        {
            "id": f"p{i}",
            "source": "t",
            "prompt": prompt,
            "chosen": assistant(f"cat {WORDS[i % 5]}"),
            "chosen_ended": True,
            "rejected": assistant(f"dog {WORDS[i % 3]}"),
            "rejected_ended": i % 2 == 0,
        }
        for i, prompt in enumerate(prompts)
    ]
    unpaired = [
        {
            "id": f"u{i}",
            "source": "t",
            "prompt": prompt,
            "label": i % 2 == 0,
            "ended": i % 3 != 0,
            "completion": assistant(f"{GOOD if i % 2 == 0 else BAD} {WORDS[i % 5]}"),
        }
        for i, prompt in enumerate(prompts)
    ]
    for kind, rows in {"rankings": rankings, "preferences": preferences, "unpaired": unpaired}.items():
        for side in ("train", "heldout"):
            write_table(rows, kind, root / kind / f"{side}.parquet")
    return {kind: root / kind for kind in ("rankings", "preferences", "unpaired")}


def first_loss(run):
    return json.loads((run.side / "curves.jsonl").read_text().splitlines()[0])["loss"]


@pytest.mark.parametrize(("loss", "kind"), CASES)
def test_it_fits_sixteen_rows(loss, kind, sixteen, tiny_checkpoint, new_run):
    run = new_run()
    steps = STEPS["max_steps"] * (3 if loss == "pointwise" else 1)  # three times as many rows
    metrics = train_reward(
        RewardConfig(loss=loss, **{**STEPS, "max_steps": steps}), base=tiny_checkpoint, run=run, **{kind: sixteen[kind]}
    )
    assert metrics["eval_loss"] < (0.2 if loss != "pointwise" else 0.1)
    if loss == "pointwise":
        assert (
            first_loss(run) > 1
            and metrics["eval_pearson"] > 0.95
            and metrics["eval_accuracy"] is metrics["eval_accuracy/low"] is None
        )
    else:
        assert first_loss(run) == pytest.approx(math.log(2), abs=1e-6), "a head of zeros has no opinion"
        assert metrics["eval_accuracy/low"] < metrics["eval_accuracy"] == 1.0 and "eval_pearson" not in metrics
    rows = {"bradley_terry": "pairs", "ranking": "lists"}.get(loss, "answers")
    assert metrics[f"eval_{rows}"] == {("pointwise", "rankings"): 48, ("binary", "preferences"): 32}.get(
        (loss, kind), 16
    )
    assert ("eval_margin" in metrics) == (loss in ("bradley_terry", "ranking"))
    reward = load_reward_model(run.out, Runtime())
    better, worse = reward.score([(user("the cat"), f"{word} hill", True) for word in (GOOD, BAD)])
    assert better > worse and (loss != "binary" or better > 0 > worse)
    checks = json.loads((run.out / "check_rows.json").read_text())
    assert len(checks) == 4 and len({check["score"] for check in checks}) > 1


@pytest.mark.parametrize("loss", ["ranking", "pointwise", "binary"])
def test_micro_batches_change_rounding_only(loss, sixteen, tiny_checkpoint, new_run):
    kind = REWARD_LOSSES[loss].kinds[0]
    found = [
        train_reward(
            RewardConfig(loss=loss, **{**STEPS, "max_steps": 4}),
            base=tiny_checkpoint,
            run=new_run(f"{tokens}", micro_batch_tokens=tokens),
            **{kind: sixteen[kind]},
        )
        for tokens in (64, 8192)
    ]
    known = [{name: value for name, value in metrics.items() if value is not None} for metrics in found]
    assert known[0] == pytest.approx(known[1], rel=1e-3) and len(known[0]) > 3


def test_a_list_counts_once_for_the_interval_and_each_of_its_pairs_for_the_accuracy(
    sixteen, tiny_checkpoint, new_run, tmp_path
):
    """A list of three pairs, all right, and a list of one pair, which is wrong."""
    rows = read_table(sixteen["rankings"] / "train.parquet")[:2]
    rows[1] |= {"scores": [1.0, None, 0.0]}
    write_table(rows, "rankings", tmp_path / "heldout.parquet")
    run, reward = new_run(), build_reward_model(tiny_checkpoint, Runtime())
    read = read_reward_rows(RewardConfig(loss="ranking"), "rankings", tmp_path / "heldout.parquet", reward, run)
    assert read.comparisons.tolist() == [3, 1]
    accuracy = torch.tensor([1.0, 0.0])
    fixed = replace(
        read, loss=lambda _, own: LossOutput(torch.ones(len(own)), {"accuracy": accuracy[own], "margin": accuracy[own]})
    )
    metrics = evaluate_reward(reward, fixed, run)
    assert (metrics["eval_accuracy"], metrics["eval_lists"], metrics["eval_margin"]) == (0.75, 2, 0.5)
    assert (metrics["eval_accuracy/low"], metrics["eval_accuracy/high"]) == wilson(1.5, 2, 0.95)


def test_pairs_of_lists_are_counted_without_those_of_equal_scores(tiny_checkpoint, new_run, tmp_path):
    """As `Lists.better` counts them; but a grid of 100,000 lists, one of them with 1,000 answers, would have 1e11 places."""
    scores = [[3.0, 1.0, 2.0], [1.0, 1.0, 0.0, 0.0, 2.0], [0.0, 1.0]]
    rows = [
        {
            "id": f"r{i}",
            "source": "t",
            "prompt": user("the cat"),
            "completions": list("abcdefgh"[: len(own)]),
            "scores": own,
        }
        for i, own in enumerate(scores)
    ]
    write_table(rows, "rankings", tmp_path / "train.parquet")
    read = read_rankings(
        tmp_path / "train.parquet", build_reward_model(tiny_checkpoint, Runtime()).tokenizer, 64, new_run(), "reward"
    )
    owners = torch.repeat_interleave(torch.arange(3), torch.tensor([3, 5, 2]))
    grid = make_lists(owners, read.score[torch.from_numpy(read.members)]).better().sum((1, 2))
    assert strict_pairs(read) == grid.tolist() == [3, 8, 1]


def test_a_regression_learns_from_the_only_answer_of_a_list_and_counts_what_has_no_score(
    sixteen, tiny_checkpoint, new_run, tmp_path
):
    rows = read_table(sixteen["rankings"] / "train.parquet")[:2]
    rows[0] |= {"scores": [1.0, None, None]}
    for side in ("train", "heldout"):
        write_table(rows, "rankings", tmp_path / f"{side}.parquet")
    run = new_run()
    metrics = train_reward(RewardConfig(loss="pointwise", **STEPS), base=tiny_checkpoint, rankings=tmp_path, run=run)
    assert metrics["eval_answers"] == 4
    assert [warning for warning in run.warnings if "no score" in warning] == [
        f"2 answers of {side} have no score and were dropped" for side in ("train", "heldout")
    ]


def test_the_first_loss_of_a_regression_is_the_mean_square_of_its_targets(sixteen, tiny_checkpoint, new_run):
    run = new_run()
    train_reward(
        RewardConfig(loss="pointwise", **{**STEPS, "batch_size": 48, "max_steps": 1}),
        base=tiny_checkpoint,
        rankings=sixteen["rankings"],
        run=run,
    )
    assert first_loss(run) == pytest.approx((4 + 0.25 + 1) / 3, abs=1e-6)


def test_data_that_the_loss_cannot_learn_from_is_refused(sixteen, tiny_checkpoint, new_run):
    with pytest.raises(TrainingError, match=r"reward.loss pointwise learns from scored answers\n  use rankings"):
        train_reward(
            RewardConfig(loss="pointwise"), base=tiny_checkpoint, preferences=sixteen["preferences"], run=new_run()
        )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"loss": "ranking", "use_margin": True}, "the loss ranking does not read use_margin: leave it out"),
        (
            {"loss": "binary", "l2_coefficient": 0.1, "use_soft_labels": False},
            "does not read l2_coefficient, use_soft_labels",
        ),
        (
            {"loss": "pointwise", "metric_for_best_model": "eval_accuracy"},
            "has no eval_accuracy: metric_for_best_model is one of eval_loss, eval_pearson",
        ),
        ({"metric_for_best_model": "eval_pearson"}, "the loss bradley_terry has no eval_pearson"),
    ],
)
def test_fields_that_the_loss_does_not_read_are_refused(fields, said):
    with pytest.raises(ValidationError, match=said):
        RewardConfig(**fields)


def test_fields_at_their_defaults_and_those_that_it_reads_may_be_written():
    RewardConfig(loss="ranking", use_margin=False, l2_coefficient=0.1, center_rewards_coefficient=0.1)
    assert RewardConfig(loss="pointwise", metric_for_best_model="eval_pearson").greater_is_better


def test_each_loss_takes_inputs_of_the_stage_and_has_metrics_that_say_what_is_better():
    inputs = {name.rstrip("?") for name in catalogue.STAGES["reward"].takes}
    assert all(
        set(row.kinds) <= inputs and set(row.metrics) <= GREATER_IS_BETTER.keys() for row in REWARD_LOSSES.values()
    )
    fields = RewardConfig.model_fields
    assert set(fields["loss"].annotation.__args__) == REWARD_LOSSES.keys()
    assert all(set(row.unread) <= fields.keys() for row in REWARD_LOSSES.values())


def test_check_rows_are_answers_of_the_rows_that_are_named(sixteen):
    table = sixteen["preferences"] / "train.parquet"
    rows = check_rows(table, "preferences", {"p1", "p3", "p4"}, 3)
    assert [(text, ended) for _, text, ended in rows] == [("cat dog", True), ("dog dog", False), ("cat house", True)]


def test_a_row_that_is_a_part_of_a_row_of_its_table_knows_whose():
    rows = RewardRows("answers", [1, 1], ["a/b/chosen", "c/0"], loss=None, comparisons=torch.ones(2), parts=True)
    assert rows.table_names(2) == {"a/b", "c"} and rows.table_names(1) == {"a/b"}
    assert replace(rows, parts=False).table_names(2) == {"a/b/chosen", "c/0"}


def test_correlation_is_none_where_a_series_is_constant_or_too_short():
    numbers = torch.tensor([1.0, 2.0, 4.0])
    assert pearson(numbers, 3 - 2 * numbers) == pytest.approx(-1, abs=1e-12)
    assert (
        pearson(numbers, torch.ones(3)) is pearson(torch.zeros(3), numbers) is pearson(numbers[:1], numbers[:1]) is None
    )
