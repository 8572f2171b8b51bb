"""Aligns a policy by a method of the catalogue: the trainer knows pairs and a loss, no method's name."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from alignflow.data import catalogue
from alignflow.data.artifacts import artifact_of, read_manifest
from alignflow.data.configs.training import AlignConfig
from alignflow.data.errors import TrainingError
from alignflow.data.run import Run
from alignflow.models.batching import make_micro_batches
from alignflow.models.checkpoints import licences_of, save_checkpoint
from alignflow.models.engines.base import make_engine
from alignflow.models.losses.base import LossOutput, PairBatch
from alignflow.models.policy import Policy, completion_logps, load_policy
from alignflow.models.trainers.fit import Plan, StepOutput, fit
from alignflow.models.trainers.pairs import Pairs, read_pairs

START_TOLERANCE = {"fp32": 1e-3, "bf16": 5e-2}
REFERENCE_FILE = "reference_logps.safetensors"

Loss = Callable[[PairBatch], LossOutput]
References = dict[str, torch.Tensor]  # "train/chosen" and so on -> (rows,) fp32 sums


def train_align(config: AlignConfig, *, policy: Path, reference: Path | None, preferences: Path, run: Run) -> dict[str, float | None]:
    """Align the checkpoint `policy` on `preferences`/train.parquet by `config.method`.

    The reference's log-probabilities are computed once, before training. Metrics: those of the method's loss for the
    last logged steps, and `eval_` ones on heldout.parquet.

    Raises:
        TrainingError: no pairs, zero steps, a loss that is not finite, or a first batch whose loss is not ln 2 though
            policy and reference are the same model.
    """
    row = catalogue.look_up(catalogue.METHODS, config.method, "align.method")
    options = catalogue.parse_options(row, config.options, "align.options")
    function = row.resolve()
    config = config if config.beta is not None else config.model_copy(update={"beta": row.beta})
    model = load_policy(policy, run.runtime, trainable=True)
    data = {
        side: read_pairs(preferences / f"{side}.parquet", model.tokenizer, config.max_length, run, "align") for side in ("train", "heldout")
    }
    if not len(data["train"]):
        raise TrainingError("no preference pairs to learn from", where="align", do="raise align.max_length, or label more candidates")
    references: References = {}
    if row.needs_reference:
        references = reference_sums(model, policy, reference or policy, data, run)

    def loss(batch: PairBatch) -> LossOutput:
        return function(batch, config, options)

    if row.needs_reference and same_model(policy, reference or policy):
        check_start(model, data["train"], references, loss, run)
    metrics = _train(model, data, references, loss, config, run)
    card = {
        f"Aligned by {config.method}": f"Aligned by alignflow ({row.summary} arXiv {row.paper}).",
        "pairs": str(len(data["train"])), "beta": str(config.beta), "licences of what went in": licences_of(policy, preferences),
    }  # fmt: skip
    save_checkpoint(model.model, model.tokenizer, run.out, card)
    return metrics


def _train(
    model: Policy, data: dict[str, Pairs], references: References, loss: Loss, config: AlignConfig, run: Run
) -> dict[str, float | None]:
    engine = make_engine(model.model, config, run.runtime)
    pairs = data["train"]

    def compute(batch: list[int]) -> StepOutput:
        output, chosen_nll = pair_loss(model, pairs, batch, references, "train", loss)
        total = output.loss.sum() + config.sft_coefficient * chosen_nll.sum()
        figures = {**output.metrics, "nll_loss": chosen_nll.detach()}
        return StepOutput(total, {name: (float(values.sum()), len(batch)) for name, values in figures.items()})

    plan = Plan("align", pairs.lengths, [1.0] * len(pairs), pairs.ids)
    metrics: dict[str, float | None] = {**fit(engine, compute, plan, config, run)}
    engine.close()
    return metrics | evaluate_pairs(model, data["heldout"], references, loss, run)


def pair_loss(
    model: Policy, pairs: Pairs, batch: list[int], references: References, side: str, loss: Loss
) -> tuple[LossOutput, torch.Tensor]:
    """The method's loss of some pairs, and the NLL per token of their chosen answers (RPO, arXiv 2404.19733), both (rows,)."""
    statistics = model.token_statistics(pairs.both(batch))
    chosen, rejected = statistics.sums().chunk(2)
    chosen_tokens, rejected_tokens = statistics.counts().chunk(2)

    def known(name: str) -> torch.Tensor | None:
        return references[f"{side}/{name}"][batch].to(chosen.device) if references else None

    output = loss(
        PairBatch(
            chosen, rejected, known("chosen"), known("rejected"), chosen_tokens, rejected_tokens,
            pairs.soft_label[batch].to(chosen.device),
        )
    )  # fmt: skip
    return output, -chosen / chosen_tokens


def reference_sums(model: Policy, policy: Path, reference: Path, data: dict[str, Pairs], run: Run) -> References:
    """The reference's summed log-probabilities of every answer, computed once and kept for a resumed run."""
    kept = run.work / REFERENCE_FILE
    if kept.is_file():
        return load_file(kept)
    frozen = model if same_model(policy, reference) else load_policy(reference, run.runtime)
    sums: References = {}
    for done, (side, pairs) in enumerate(data.items()):
        run.progress(done, len(data), "reference passes")
        rows = pairs.both(range(len(pairs)))  # both sides in one call: they share their prompts
        found = [row.sum() for row in completion_logps(frozen, rows, run.runtime.micro_batch_tokens)]
        for name, part in (("chosen", found[: len(pairs)]), ("rejected", found[len(pairs) :])):
            sums[f"{side}/{name}"] = torch.stack(part) if part else torch.zeros(0)
        run.count_tokens(sum(pairs.lengths))
    run.work.mkdir(parents=True, exist_ok=True)
    temporary = kept.with_suffix(".tmp")
    save_file(sums, temporary)
    os.replace(temporary, kept)
    return sums


def same_model(first: Path, second: Path) -> bool:
    """Whether two checkpoints are the same bytes: the same path, or artifacts of one digest."""
    artifacts = [artifact_of(Path(path)) for path in (first, second)]
    if all(artifacts):
        return len({read_manifest(artifact).digest for artifact in artifacts if artifact}) == 1
    return Path(first) == Path(second)


@torch.no_grad()
def check_start(model: Policy, pairs: Pairs, references: References, loss: Loss, run: Run) -> None:
    """At the start policy and reference are one model, and every pair's loss must be ln 2; raises TrainingError."""
    batch = make_micro_batches(pairs.lengths[:32], run.runtime.micro_batch_tokens)[0]
    output, _ = pair_loss(model, pairs, batch, references, "train", loss)
    found = float(output.loss.mean())
    if abs(found - math.log(2)) > START_TOLERANCE[run.runtime.precision]:
        raise TrainingError(
            f"the first batch has loss {found:.6f} where ln 2 = {math.log(2):.6f} must stand", where="align, step 0",
            do="the reference is not the model that training starts from, or log-probabilities are computed in two ways",
        )  # fmt: skip


@torch.no_grad()
def evaluate_pairs(model: Policy, pairs: Pairs, references: References, loss: Loss, run: Run) -> dict[str, float | None]:
    """`eval_loss` and the loss's metrics on held-out pairs, as means over pairs."""
    sums: dict[str, Any] = {}
    for batch in make_micro_batches(pairs.lengths, run.runtime.micro_batch_tokens):
        output, _ = pair_loss(model, pairs, batch, references, "heldout", loss)
        for name, values in {"loss": output.loss, **output.metrics}.items():
            sums[f"eval_{name}"] = sums.get(f"eval_{name}", 0.0) + float(values.sum())
    return {name: value / len(pairs) for name, value in sums.items()}
