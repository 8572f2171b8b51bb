"""Trains a reward model: on pairs, on lists of answers, on answers with scores or with labels."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from alignflow.data.configs.training import RewardConfig
from alignflow.data.errors import TrainingError
from alignflow.data.intervals import wilson
from alignflow.data.run import Run
from alignflow.models.checkpoints import licences_of
from alignflow.models.engines import group
from alignflow.models.engines.base import make_engine
from alignflow.models.reward_model import Scorer, build_reward_model, save_reward_model
from alignflow.models.trainers.fit import Plan, StepOutput, fit
from alignflow.models.trainers.passes import passes
from alignflow.models.trainers.reward_rows import RewardRows, check_rows, read_reward_rows
from alignflow.models.trainers.row_weights import denominators, weighed

BOOTSTRAP = 500_009
"""Makes the draw of a bootstrap sample independent of the orders of the epochs, which the same seed draws."""


def train_reward(
    config: RewardConfig,
    *,
    base: Path,
    preferences: Path | None = None,
    unpaired: Path | None = None,
    rankings: Path | None = None,
    run: Run,
) -> dict[str, float | None]:
    """Train a reward model on train.parquet of the given data, on the backbone of the checkpoint `base`.

    Metrics: `loss` of the last logged steps, and on heldout.parquet those of `evaluate_reward`.

    Args:
        config: The loss and the common fields.
        base: The checkpoint whose backbone it gets; its head starts at zero.
        preferences: Directory of pairs.
        unpaired: Directory of answers with labels.
        rankings: Directory of lists of answers with scores.
        run: Where to write.

    Raises:
        TrainingError: the loss cannot learn from the given data, no rows, zero steps, or a loss that is not finite.
    """
    given = {"preferences": preferences, "unpaired": unpaired, "rankings": rankings}
    kind, directory = next(
        ((kind, given[kind]) for kind in config.about_loss.kinds if given[kind] is not None), ("", None)
    )
    if directory is None:
        raise TrainingError(
            f"reward.loss {config.loss} learns from {config.about_loss.what}",
            where="reward",
            do=f"use {' or '.join(config.about_loss.kinds)}",
        )
    group.join(run.runtime)
    reward = build_reward_model(base, run.runtime, config)
    sides = {
        side: read_reward_rows(config, kind, directory / f"{side}.parquet", reward, run)
        for side in ("train", "heldout")
    }
    rows, heldout = sides["train"], sides["heldout"]
    if not len(rows):
        what = config.about_loss.what
        raise TrainingError(
            f"no {what} to learn from",
            where="reward",
            do="set reward.max_length to a larger value, or label more candidates",
        )
    engine = make_engine(reward.model, config, run.runtime)
    if config.bootstrap:
        rows = rows.sampled(bootstrap_sample(len(rows), config.seed))

    def compute(batch: list[int]) -> StepOutput:
        output = rows.loss(reward, batch)
        loss = weighed(output.loss, rows.weight, batch)
        return StepOutput(
            loss.sum(), {name: (float(values.sum()), len(batch)) for name, values in output.metrics.items()}
        )

    plan = Plan("reward", rows.lengths, denominators(rows.weight, len(rows)), rows.ids)
    metrics = fit(engine, compute, plan, config, run, lambda: evaluate_reward(reward, heldout, run))
    card = {
        "Reward model": f"Reward model ({config.loss}), trained by alignflow; one score per answer, read at its last token.",
        rows.noun: str(len(rows)),
        "licences of what went in": licences_of(base, directory),
    }
    shown = "heldout" if len(heldout) else "train"
    names = sides[shown].table_names(config.check_rows)
    save_reward_model(reward, run.out, check_rows(directory / f"{shown}.parquet", kind, names, config.check_rows), card)
    engine.close()
    return metrics


def bootstrap_sample(count: int, seed: int) -> list[int]:
    """Positions of `count` rows, drawn with replacement from `count` rows by the seed (Efron 1979): about 63 % of the rows are among them."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + BOOTSTRAP) % 2**63)
    return torch.randint(count, (count,), generator=generator).tolist()


@torch.no_grad()
def evaluate_reward(reward: Scorer, rows: RewardRows, run: Run) -> dict[str, float | None]:
    """Figures on held-out rows; None if there are no rows, or if the loss has no such figure.

    - `eval_loss`: the mean over rows, weighted as in training.
    - `eval_accuracy` (a tie is half): of pairs and of lists the share of pairs in the right order, of labelled answers the share
      whose score has the label's sign; with its 95% Wilson interval `eval_accuracy/low` and `/high`. The interval counts a list
      as one observation, since the pairs of a list share answers. A regression has none.
    - `eval_margin`: the mean score difference of pairs (of a list the mean over its pairs); only for pairs and lists.
    - `eval_pearson`: the correlation of scores and targets of a regression; None if either is constant.
    - `eval_pairs`, `eval_lists` or `eval_answers`: how many rows there were.
    """
    count, names = len(rows), ("eval_accuracy", "eval_accuracy/low", "eval_accuracy/high", "eval_loss")
    figures: dict[str, float | None] = {**dict.fromkeys(names), f"eval_{rows.noun}": float(count)}
    if rows.noun != "answers":
        figures["eval_margin"] = None
    if rows.targets is not None:
        figures["eval_pearson"] = None
    if not count:
        return figures
    sums, scores = _held_out_sums(reward, rows, run)
    figures["eval_loss"] = sums["loss"] / (count if rows.weight is None else float(rows.weight.sum()))
    if "margin" in sums:
        figures["eval_margin"] = sums["margin"] / count
    if rows.targets is not None:
        figures["eval_pearson"] = pearson(scores, rows.targets)
        return figures
    accuracy = sums["accuracy"] / float(rows.comparisons.sum())
    return figures | dict(zip(names, (accuracy, *wilson(accuracy * count, count, 0.95)), strict=False))


def _held_out_sums(reward: Scorer, rows: RewardRows, run: Run) -> tuple[dict[str, float], torch.Tensor]:
    """Sums over all processes: losses, margins, right comparisons; and the score of each row, if the loss has one per row."""
    sums, scores = {"loss": 0.0}, torch.zeros(len(rows), dtype=torch.float64)
    for own in passes(rows.lengths, run.runtime.micro_batch_tokens):
        output = rows.loss(reward, own.rows)
        loss = weighed(output.loss, rows.weight, own.rows)
        found = {"loss": loss, **{name: output.metrics[name] for name in ("margin",) if name in output.metrics}}
        if "accuracy" in output.metrics:
            found["accuracy"] = output.metrics["accuracy"] * rows.comparisons[own.rows].to(output.loss.device)
        for name, values in found.items():
            sums[name] = sums.get(name, 0.0) + (float(values.sum()) if own.counts else 0.0)
        if own.counts and "score" in output.metrics:
            scores[own.rows] = output.metrics["score"].double().cpu()
    return group.sum_all(sums), group.sum_tensor(scores)


def pearson(scores: torch.Tensor, targets: torch.Tensor) -> float | None:
    """Pearson's correlation of two series (rows,); None for fewer than two rows, and if one is constant."""
    pair = np.stack([scores.double().numpy(), targets.double().numpy()])
    if pair.shape[1] < 2 or (pair == pair[:, :1]).all(1).any():
        return None
    found = float(np.corrcoef(pair)[0, 1])
    return found if math.isfinite(found) else None
