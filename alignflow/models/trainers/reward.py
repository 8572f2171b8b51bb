"""Trains a Bradley-Terry reward model on preference pairs."""

from __future__ import annotations

from pathlib import Path

import torch
from scipy.stats import binomtest

from alignflow.data.configs.training import RewardConfig
from alignflow.data.errors import TrainingError
from alignflow.data.run import Run
from alignflow.models.adapters import add_adapter
from alignflow.models.checkpoints import licences_of
from alignflow.models.engines import group
from alignflow.models.engines.base import make_engine
from alignflow.models.losses.base import LossOutput
from alignflow.models.losses.reward import bradley_terry
from alignflow.models.reward_model import RewardModel, ScoredRow, build_reward_model, save_reward_model
from alignflow.models.trainers.fit import Plan, StepOutput, fit
from alignflow.models.trainers.pairs import Pairs, read_pairs
from alignflow.models.trainers.passes import passes


def train_reward(config: RewardConfig, *, base: Path, preferences: Path, run: Run) -> dict[str, float | None]:
    """Train a reward model on `preferences`/train.parquet, on the backbone of the checkpoint `base`.

    Metrics: `loss` of the last logged steps; on heldout.parquet `eval_accuracy` (a tie is half) with its 95% Wilson
    interval `eval_accuracy/low` and `/high`, `eval_loss` and `eval_margin`.

    Raises:
        TrainingError: no pairs, zero steps, or a loss that is not finite.
    """
    group.join(run.runtime)
    reward = build_reward_model(base, run.runtime)
    add_adapter(reward, config, base)
    pairs = read_pairs(preferences / "train.parquet", reward.tokenizer, config.max_length, run, "reward", reward.context_length)
    heldout = read_pairs(preferences / "heldout.parquet", reward.tokenizer, config.max_length, run, "reward", reward.context_length)
    if not len(pairs):
        raise TrainingError("no preference pairs to learn from", where="reward", do="raise reward.max_length, or label more candidates")
    engine = make_engine(reward.model, config, run.runtime)

    def compute(batch: list[int]) -> StepOutput:
        output = pair_loss(reward, pairs, batch, config)
        return StepOutput(output.loss.sum(), {name: (float(values.sum()), len(batch)) for name, values in output.metrics.items()})

    plan = Plan("reward", pairs.lengths, [1.0] * len(pairs), pairs.ids)
    metrics = fit(engine, compute, plan, config, run, lambda: evaluate_pairs(reward, heldout, config, run))
    card = {
        "Reward model": "Bradley-Terry reward model, trained by alignflow; one score per answer, read at its last token.",
        "pairs": str(len(pairs)), "licences of what went in": licences_of(base, preferences),
    }  # fmt: skip
    save_reward_model(reward, run.out, check_rows(heldout if len(heldout) else pairs, config.check_rows), card)
    engine.close()
    return metrics


def pair_loss(reward: RewardModel, pairs: Pairs, batch: list[int], config: RewardConfig) -> LossOutput:
    """Bradley-Terry loss of some pairs, both sides in one forward pass."""
    chosen, rejected = reward.scores_packed(pairs.both(batch)).chunk(2)
    margin, soft_label = (values[batch].to(chosen.device) for values in (pairs.margin, pairs.soft_label))
    return bradley_terry(chosen, rejected, margin, soft_label, config)


@torch.no_grad()
def evaluate_pairs(reward: RewardModel, pairs: Pairs, config: RewardConfig, run: Run) -> dict[str, float | None]:
    """Accuracy with its interval, loss and margin on held-out pairs; None where there are none."""
    names = ("eval_accuracy", "eval_accuracy/low", "eval_accuracy/high", "eval_loss", "eval_margin", "eval_pairs")
    if not len(pairs):
        return {**dict.fromkeys(names), "eval_pairs": 0.0}
    sums = {"loss": 0.0, "accuracy": 0.0, "margin": 0.0}
    for own in passes(pairs.lengths, run.runtime.micro_batch_tokens):
        output = pair_loss(reward, pairs, own.rows, config)
        if own.counts:
            sums["loss"] += float(output.loss.sum())
            for name in ("accuracy", "margin"):
                sums[name] += float(output.metrics[name].sum())
    sums = group.sum_all(sums)
    interval = binomtest(round(sums["accuracy"]), len(pairs)).proportion_ci(0.95, method="wilson")
    values = (sums["accuracy"], interval.low * len(pairs), interval.high * len(pairs), sums["loss"], sums["margin"], len(pairs) ** 2)
    return {name: value / len(pairs) for name, value in zip(names, values, strict=True)}


def check_rows(pairs: Pairs, count: int) -> list[ScoredRow]:
    """Rows whose scores are stored beside the model: both sides of the first pairs."""
    rows: list[ScoredRow] = []
    for row in pairs.first_records((count + 1) // 2):
        for side in ("chosen", "rejected"):
            *before, last = row[side]
            rows.append(([*row["prompt"], *before], last["content"], row[f"{side}_ended"] is not False))
    return rows[:count]
