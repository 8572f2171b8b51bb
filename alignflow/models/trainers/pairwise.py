"""Aligns a policy by a method of the catalogue: the trainer knows pairs and a loss, no method's name."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from safetensors.torch import load_file, save_file

from alignflow.data import catalogue
from alignflow.data.artifacts import file_digest
from alignflow.data.configs.training import AlignConfig
from alignflow.data.errors import TrainingError
from alignflow.data.run import Run
from alignflow.models.adapters import add_adapter, save_model
from alignflow.models.batching import make_micro_batches
from alignflow.models.checkpoints import licences_of
from alignflow.models.engines import group
from alignflow.models.engines.base import make_engine
from alignflow.models.losses.base import LossOutput, OfflineBatch, PairBatch, Role
from alignflow.models.policy import Policy, load_policy
from alignflow.models.reference import ANSWERS, References, is_of, read_references
from alignflow.models.trainers.fit import Compute, Plan, StepOutput, fit
from alignflow.models.trainers.pairs import Pairs, read_pairs
from alignflow.models.trainers.passes import passes
from alignflow.models.trainers.room import context_of

START_TOLERANCE = {"fp32": 1e-4, "bf16": 1e-2}
"""Largest mean over answers of |log pi - log pi_ref| per token, nats, where both are one model: what rounding makes of it."""
REFERENCE_FILE = "reference_logps"

Loss = Callable[[PairBatch], LossOutput]


@dataclass(frozen=True)
class Method:
    """A method bound to its options.

    Attributes:
        loss: Its pure function.
        needs: Names of the figures per token that it takes (`token_statistics.STATISTICS`); log-probabilities always.
    """

    loss: Loss
    needs: tuple[str, ...] = ("logps",)


def train_align(config: AlignConfig, *, policy: Path, reference: Path | None, preferences: Path, run: Run) -> dict[str, float | None]:
    """Align the checkpoint `policy` on `preferences`/train.parquet by `config.method`.

    Args:
        config: The method, its options and the common fields.
        policy: The checkpoint to start from.
        reference: What the stage `reference` made of the same pairs; None: the reference is `policy` itself, and scores
            them here before training.
        preferences: Directory of the pairs.
        run: Where to write.

    Metrics: those of the method's loss for the
    last logged steps, and `eval_` ones on heldout.parquet.

    Raises:
        TrainingError: no pairs, zero steps, a loss that is not finite, or log-ratios of a first batch that are not 0 though
            policy and reference are the same model.
    """
    row = catalogue.look_up(catalogue.METHODS, config.method, "align.method")
    options = catalogue.parse_options(row, config.options, "align.options")
    function = row.resolve()
    group.join(run.runtime)
    model = load_policy(policy, run.runtime, trainable=True)
    add_adapter(model, config, policy)
    data = {
        side: read_pairs(preferences / f"{side}.parquet", model.tokenizer, config.max_length, run, "align", context_of(model.model))
        for side in ("train", "heldout")
    }
    if not len(data["train"]):
        raise TrainingError("no preference pairs to learn from", where="align", do="raise align.max_length, or label more candidates")
    engine = make_engine(model.model, config, run.runtime)
    references: References = {}
    if row.needs_reference:
        references = read_references(reference, data) if reference else own_sums(model, data, run)
    method = Method(lambda batch: function(batch, options), row.needs)
    if row.needs_reference and (reference is None or is_of(reference, policy)):
        check_start(model, data["train"], references, run)
    pairs = data["train"]
    plan = Plan("align", pairs.lengths, [1.0] * len(pairs), pairs.ids, pairs.chosen.supervised)
    compute = pair_compute(model, pairs, references, method, config)
    metrics = fit(engine, compute, plan, config, run, lambda: evaluate_pairs(model, data["heldout"], references, method, run))
    card = {
        f"Aligned by {config.method}": f"Aligned by alignflow ({row.summary}{f' arXiv {row.paper}' if row.paper else ''}).",
        "pairs": str(len(data["train"])), **settings_shown(options),
        "licences of what went in": licences_of(policy, preferences),
    }  # fmt: skip
    save_model(model, run.out, card)
    engine.close()
    return metrics


def settings_shown(options: BaseModel) -> dict[str, str]:
    """The options for the model card: beta, and what is not at its default."""
    changed = options.model_dump(exclude_defaults=True)
    return {name: str(value) for name, value in options.model_dump().items() if name == "beta" or name in changed}


def pair_compute(model: Policy, pairs: Pairs, references: References, method: Method, config: AlignConfig) -> Compute:
    """What `fit` runs on each micro-batch of training pairs; `sft_coefficient` weighs the chosen answers' NLL per token
    (RPO, arXiv 2404.19733)."""

    def compute(batch: list[int]) -> StepOutput:
        answers = offline_batch(model, pairs, batch, references, "train", method.needs)
        paired = answers.pairs()
        output, chosen_nll = method.loss(paired), -paired.mean_logps()[0]
        total = output.loss.sum() + config.sft_coefficient * chosen_nll.sum()
        shown = {name: (float(values.sum()), float(len(batch))) for name, values in output.metrics.items()}
        if output.token_loss is None:
            shown["nll_loss"] = (float(chosen_nll.detach().sum()), float(len(batch)))
        else:  # as it enters the loss: a mean over the tokens of the step
            shown["nll_loss"] = (-float(paired.logps()[0].detach().sum()), float(paired.chosen.tokens.sum()))
        return StepOutput(total, shown, None if output.token_loss is None else output.token_loss.sum())

    return compute


def offline_batch(
    model: Policy, pairs: Pairs, batch: list[int], references: References, side: str, needs: tuple[str, ...] = ("logps",)
) -> OfflineBatch:
    """Both answers of some pairs with the figures per token that a method needs, from one forward pass."""
    statistics = model.token_statistics(pairs.both(batch), needs)
    sums = statistics.sums()
    count, device = len(batch), sums.device
    reference = torch.cat([references[f"{side}/{name}"][batch] for name in ANSWERS]).to(device) if references else None
    return OfflineBatch(
        group=torch.arange(count, device=device).repeat(2),
        role=torch.tensor([int(Role.CHOSEN), int(Role.REJECTED)], device=device).repeat_interleave(count),
        logps=sums, tokens=statistics.counts().long(), ended=pairs.ended[:, batch].flatten().to(device), reference_logps=reference,
        soft_label=pairs.soft_label[batch].to(device).repeat(2), statistics=statistics.values,
    )  # fmt: skip


def own_sums(model: Policy, data: dict[str, Pairs], run: Run) -> References:
    """The sums of every answer's log-probabilities before training, kept for a resumed run; an adapter is switched off."""
    kept = _kept_sums(run)
    if not group.anywhere(kept is None):
        assert kept is not None
        return load_file(kept)
    sums: References = {}
    with model.adapter.off() if model.adapter else nullcontext():
        for done, (side, pairs) in enumerate(data.items()):
            run.progress(done, len(data), "reference passes")
            for name, found in zip(ANSWERS, pair_sums(model, pairs, run), strict=True):
                sums[f"{side}/{name}"] = found
            run.count_tokens(sum(pairs.lengths))
    if run.main:
        run.work.mkdir(parents=True, exist_ok=True)
        temporary = run.work / f"{REFERENCE_FILE}.tmp"
        save_file(sums, temporary)
        os.replace(temporary, run.work / f"{REFERENCE_FILE}-{file_digest(temporary)}.safetensors")
    return sums


def _kept_sums(run: Run) -> Path | None:
    """The file of sums that an earlier start kept: its name has the digest of its bytes. None where there is none that is whole."""
    for path in sorted(run.work.glob(f"{REFERENCE_FILE}-*.safetensors")):
        if path.stem == f"{REFERENCE_FILE}-{file_digest(path)}":
            return path
        if run.main:
            run.note("the reference's kept log-probabilities are damaged: they are computed again")
    return None


@torch.no_grad()
def pair_sums(policy: Policy, pairs: Pairs, run: Run) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed log-probabilities of the chosen and of the rejected answers, both (pairs,) fp32, in every process.

    Each process runs its share; both sides of a pair stand in one pass, where they share their prompt.
    """
    sums = torch.zeros(2, len(pairs))
    for own in passes(pairs.lengths, run.runtime.micro_batch_tokens):
        found = policy.token_statistics(pairs.both(own.rows)).sums().cpu()
        if own.counts:
            sums[:, own.rows] = torch.stack(found.chunk(2))
    chosen, rejected = group.sum_tensor(sums)
    return chosen, rejected


@torch.no_grad()
def check_start(model: Policy, pairs: Pairs, references: References, run: Run) -> None:
    """At the start policy and reference are one model, and every log-ratio must be 0 up to rounding; raises TrainingError."""
    batch = make_micro_batches(pairs.lengths[:32], run.runtime.micro_batch_tokens)[0]
    answers = offline_batch(model, pairs, batch, references, "train")
    assert answers.reference_logps is not None
    found = float(((answers.logps - answers.reference_logps).abs() / answers.tokens.clamp(min=1)).mean())
    if not found <= START_TOLERANCE[run.runtime.precision]:
        raise TrainingError(
            f"the first batch's log-ratios are {found:.6f} nats per token; expected 0, since policy and reference are one model",
            where="align, step 0", do="the reference is not the model that training starts from, or log-probabilities are computed in two ways",
        )  # fmt: skip


@torch.no_grad()
def evaluate_pairs(model: Policy, pairs: Pairs, references: References, method: Method, run: Run) -> dict[str, float | None]:
    """`eval_loss`, `eval_nll_loss` and the loss's metrics on held-out pairs, as means over pairs.

    A token loss is a mean over tokens, and so is the NLL of a method with one.
    """
    sums: dict[str, Any] = {}
    tokens = max(sum(pairs.chosen.supervised), 1)
    for own in passes(pairs.lengths, run.runtime.micro_batch_tokens):
        paired = offline_batch(model, pairs, own.rows, references, "heldout", method.needs).pairs()
        output = method.loss(paired)
        shown = {"loss": output.loss, "nll_loss": -paired.mean_logps()[0], **output.metrics}
        if output.token_loss is not None:
            shown["loss"] = output.loss + output.token_loss * (len(pairs) / tokens)
            shown["nll_loss"] = -paired.logps()[0] * (len(pairs) / tokens)
        for name, values in shown.items():
            sums[f"eval_{name}"] = sums.get(f"eval_{name}", 0.0) + own.counts * float(values.sum())
    sums = group.sum_all(sums)
    return {name: value / len(pairs) for name, value in sums.items()}
