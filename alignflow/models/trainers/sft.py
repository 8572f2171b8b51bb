"""Supervised fine-tuning on assistant tokens only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from alignflow.data.configs.training import SFTConfig
from alignflow.data.errors import TrainingError
from alignflow.data.records import read_table
from alignflow.data.rendering import encode_conversation
from alignflow.data.run import Run
from alignflow.models.adapters import add_adapter, save_model
from alignflow.models.batching import EncodedRow
from alignflow.models.checkpoints import licences_of
from alignflow.models.engines import group
from alignflow.models.engines.base import make_engine
from alignflow.models.policy import Policy, load_policy
from alignflow.models.trainers.fit import Plan, StepOutput, fit
from alignflow.models.trainers.passes import passes
from alignflow.models.trainers.room import context_of, room


def train_sft(config: SFTConfig, *, base: Path, demonstrations: Path, run: Run) -> dict[str, float | None]:
    """Fine-tune `base` on `demonstrations`/train.parquet: mean NLL per assistant token, over the whole step's tokens.

    Metrics: `loss` and `mean_token_accuracy` of the last logged steps, `eval_loss` (nats per token) and
    `eval_mean_token_accuracy` on heldout.parquet.

    Raises:
        TrainingError: no row, a row without supervised tokens, zero steps, or a loss that is not finite.
    """
    group.join(run.runtime)
    policy = load_policy(base, run.runtime, trainable=True)
    add_adapter(policy, config, base)
    ids, rows = read_rows(demonstrations / "train.parquet", policy.tokenizer, config.max_length, run, context_of(policy.model))
    _, heldout = read_rows(demonstrations / "heldout.parquet", policy.tokenizer, config.max_length, run, context_of(policy.model))
    engine = make_engine(policy.model, config, run.runtime)

    def compute(batch: list[int]) -> StepOutput:
        statistics = policy.token_statistics([rows[index] for index in batch], ("logps", "correct"))
        tokens = float(len(statistics.logps))
        return StepOutput(-statistics.logps.sum(), {"mean_token_accuracy": (float(statistics.values["correct"].sum()), tokens)})

    plan = Plan("sft", [len(row) for row in rows], [row.supervised for row in rows], ids)
    metrics = fit(engine, compute, plan, config, run, lambda: evaluate_rows(policy, heldout, run))
    card = {
        "Supervised fine-tuning": "Fine-tuned by alignflow on the assistant tokens of demonstrations.",
        "rows": str(len(rows)), "licences of what went in": licences_of(base, demonstrations),
    }  # fmt: skip
    save_model(policy, run.out, card)
    engine.close()
    return metrics


def read_rows(
    path: Path, tokenizer: Any, max_length: int, run: Run, context: int | None = None
) -> tuple[list[str], list[EncodedRow]]:  # fmt: skip
    """Names and ids of conversations; those over `max_length` tokens or the model's `context` are left out and counted in a warning.

    Raises:
        TrainingError: nothing is left, or rows have no token to learn from.
    """
    ids, rows, too_long, silent = [], [], 0, []
    longest, limit = room(max_length, context, "sft.max_length")
    for record in read_table(path):
        try:
            tokens, mask = encode_conversation(tokenizer, record["messages"])
            first = mask.index(True)
        except ValueError:
            silent.append(record["id"])
            continue
        if len(tokens) > longest:
            too_long += 1
            continue
        if first == 0:
            silent.append(record["id"])
            continue
        ids.append(record["id"])
        rows.append(EncodedRow(tuple(tokens[:first]), tuple(tokens[first:]), tuple(mask[first:])))
    if silent:
        raise TrainingError(
            f"{len(silent)} rows have no supervised token: {', '.join(silent[:4])}", where=f"sft, {path.name}",
            do="demonstrations need an assistant turn, and a chat template that starts before it",
        )  # fmt: skip
    if too_long:
        run.warn(f"{too_long} rows of {path.name} are over {limit} and were left out")
    if not rows and path.stem == "train":
        raise TrainingError("no demonstrations to learn from", where="sft", do="raise sft.max_length, or give more data")
    return ids, rows


@torch.no_grad()
def evaluate_rows(policy: Policy, rows: list[EncodedRow], run: Run) -> dict[str, float | None]:
    """Held-out NLL per token in nats, and accuracy of the most probable token; None where there are no rows."""
    sums = {"logps": 0.0, "correct": 0.0, "tokens": 0.0}
    for own in passes([len(row) for row in rows], run.runtime.micro_batch_tokens):
        statistics = policy.token_statistics([rows[index] for index in own.rows], ("logps", "correct"))
        if own.counts:
            sums["logps"] += float(statistics.logps.sum())
            sums["correct"] += float(statistics.values["correct"].sum())
            sums["tokens"] += len(statistics.logps)
    sums = group.sum_all(sums)
    if not sums["tokens"]:
        return {"eval_loss": None, "eval_mean_token_accuracy": None}
    return {"eval_loss": -sums["logps"] / sums["tokens"], "eval_mean_token_accuracy": sums["correct"] / sums["tokens"]}
