"""Supervised fine-tuning on assistant tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alignflow.data.configs.training import SFTConfig
from alignflow.data.encoded_kinds import DEMONSTRATIONS
from alignflow.data.errors import TrainingError
from alignflow.data.run import Run
from alignflow.models.adapters import save_model
from alignflow.models.batching import EncodedRow
from alignflow.models.checkpoints import licences_of
from alignflow.models.embedding_noise import EmbeddingNoise, MakeNoise, whole
from alignflow.models.engines import group
from alignflow.models.engines.base import make_engine
from alignflow.models.merging import l1_penalty
from alignflow.models.policy import Policy, load_learner
from alignflow.models.stored_rows import LastTurns, Picked, StoredRows, open_rows
from alignflow.models.token_statistics import TokenStatistics
from alignflow.models.trainers.fit import Plan, StepOutput, fit
from alignflow.models.trainers.passes import passes
from alignflow.models.trainers.room import context_of, room


def train_sft(config: SFTConfig, *, base: Path, demonstrations: Path, run: Run) -> dict[str, float | None]:
    """Fine-tune `base` on `demonstrations`/train.parquet: mean NLL per assistant token, over the whole step's tokens, or, with
    `sequence_mean`, over each row's tokens and then over the step's rows. `l1_coefficient` adds the L1 norm of the adapter's factors,
    once in each step.

    Metrics: `loss` and `mean_token_accuracy` of the last logged steps, `eval_loss` (nats per token) and
    `eval_mean_token_accuracy` on heldout.parquet. With `l1_coefficient` also the two parts of `loss`: `nll_loss` and `l1_penalty`.

    Raises:
        TrainingError: no row, a row without supervised tokens, zero steps, or a loss that is not finite.
    """
    group.join(run.runtime)
    policy = load_learner(base, config, run.runtime)
    ids, rows = read_rows(
        demonstrations / "train.parquet", policy.tokenizer, config.max_length, run, context_of(policy.model)
    )
    _, heldout = read_rows(
        demonstrations / "heldout.parquet", policy.tokenizer, config.max_length, run, context_of(policy.model)
    )
    if config.train_on == "last_turn":
        rows, heldout = LastTurns.of(rows), LastTurns.of(heldout)
    engine = make_engine(policy.model, config, run.runtime)
    noise = None if config.neftune_noise_alpha is None else EmbeddingNoise(config.neftune_noise_alpha, config.seed)
    by_row = config.loss_reduction == "sequence_mean"

    def compute(batch: list[int]) -> StepOutput:
        drawn = None if noise is None else noise.of([ids[index] for index in batch])
        statistics = _statistics(policy, [rows[index] for index in batch], drawn, not by_row)
        tokens = float(len(statistics.logps))
        nll = row_means(statistics).sum() if by_row else -statistics.logps.sum()
        shown = {"mean_token_accuracy": (float(statistics.values["correct"].sum()), tokens)}
        if not config.l1_coefficient:
            return StepOutput(nll, shown)
        weight = (
            float(len(batch)) if by_row else tokens
        )  # part of the step's denominator, so that the penalty counts once per step
        penalty = l1_penalty(trained, config.l1_coefficient)
        shown |= {"nll_loss": (float(nll.detach()), weight), "l1_penalty": (float(penalty.detach()) * weight, weight)}
        return StepOutput(nll + penalty * weight, shown)

    trained = [parameter for parameter in policy.model.parameters() if parameter.requires_grad]
    plan = Plan("sft", rows.lengths, [1.0] * len(rows) if by_row else rows.supervised, ids, whole_step=noise)
    metrics = fit(engine, compute, plan, config, run, lambda: evaluate_rows(policy, heldout, run, by_row))
    card = {
        "Supervised fine-tuning": "Fine-tuned by alignflow on the assistant tokens of demonstrations.",
        "rows": str(len(rows)),
        "licences of what went in": licences_of(base, demonstrations),
    }
    save_model(policy, run.out, card)
    engine.close()
    return metrics


def _statistics(policy: Policy, rows: list[EncodedRow], noise: MakeNoise | None, summed: bool) -> TokenStatistics:
    """Figures of the tokens that count; with noise, rows share no prompt computation, since each has different noise."""
    if noise is None:
        return policy.token_statistics(rows, ("logps", "correct"), summed=summed)
    with policy.with_noise(noise):
        return policy.token_statistics([whole(row) for row in rows], ("logps", "correct"), summed=summed)


def row_means(statistics: TokenStatistics) -> torch.Tensor:
    """(rows,) fp32: the mean NLL of each row's tokens, nats; each row has at least one."""
    return -statistics.sums() / statistics.counts()


def read_rows(
    path: Path, tokenizer: Any, max_length: int, run: Run, context: int | None = None, stage: str = "sft"
) -> tuple[Sequence[str], StoredRows]:
    """Names and ids of conversations; those over `max_length` tokens or the model's `context` are dropped and counted in a warning.

    Every process of a stage must call it.

    Raises:
        TrainingError: nothing is left, or rows have no token to learn from.
    """
    encoded = open_rows(path, DEMONSTRATIONS, tokenizer, run)
    longest, limit = room(max_length, context, f"{stage}.max_length")
    lengths, learnt = encoded.lengths("completion"), encoded.supervised["completion"] > 0
    fits = lengths <= longest
    kept = learnt & fits & (encoded.prompt_lengths["completion"] > 0)
    silent = [encoded.names[int(position)] for position in np.flatnonzero(fits & ~kept)]
    too_long = int(np.count_nonzero(~fits))
    if silent:
        raise TrainingError(
            f"{len(silent)} rows have no supervised token: {', '.join(silent[:4])}",
            where=f"{stage}, {path.name}",
            do="use demonstrations with an assistant turn, and a chat template that starts before it",
        )
    if too_long:
        run.warn(f"{too_long} rows of {path.name} are over {limit} and were dropped")
    positions = np.flatnonzero(kept)
    if not len(positions) and path.stem == "train":
        raise TrainingError(
            "no demonstrations to learn from",
            where=stage,
            do=f"set {stage}.max_length to a larger value, or use more data",
        )
    return Picked(positions, encoded.names), StoredRows(encoded, "completion", positions)


@torch.no_grad()
def evaluate_rows(policy: Policy, rows: StoredRows, run: Run, by_row: bool = False) -> dict[str, float | None]:
    """Held-out NLL per token in nats, and accuracy of the most probable token; None if there are no rows.

    The NLL is a mean over all tokens, or, `by_row`, over rows of each one's mean over its tokens.
    """
    sums = {"nll": 0.0, "correct": 0.0, "tokens": 0.0, "rows": 0.0}
    for own in passes(rows.lengths, run.runtime.micro_batch_tokens):
        statistics = policy.token_statistics([rows[index] for index in own.rows], ("logps", "correct"))
        if own.counts:
            sums["nll"] += float(row_means(statistics).sum()) if by_row else -float(statistics.logps.sum())
            sums["correct"] += float(statistics.values["correct"].sum())
            sums["tokens"] += len(statistics.logps)
            sums["rows"] += len(own.rows)
    sums = group.sum_all(sums)
    if not sums["tokens"]:
        return {"eval_loss": None, "eval_mean_token_accuracy": None}
    return {
        "eval_loss": sums["nll"] / sums["rows" if by_row else "tokens"],
        "eval_mean_token_accuracy": sums["correct"] / sums["tokens"],
    }
