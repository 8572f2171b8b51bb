"""Aligns a policy on existing data: the trainer works with groups of answers and a loss, and knows no method's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from alignflow.data import binding, catalogue
from alignflow.data.artifacts import identity
from alignflow.data.configs.base import StageConfig, content_kind
from alignflow.data.configs.lists import score_range
from alignflow.data.configs.pairwise import nll_of_prompts
from alignflow.data.configs.training import AlignConfig
from alignflow.data.errors import TrainingError
from alignflow.data.own_methods import loaded_method
from alignflow.data.own_module import short
from alignflow.data.run import Run
from alignflow.models.adapters import save_model
from alignflow.models.batching import make_micro_batches
from alignflow.models.checkpoints import licences_of
from alignflow.models.engines import group
from alignflow.models.engines.base import make_engine
from alignflow.models.losses.base import LossOutput, OfflineBatch
from alignflow.models.losses.binary_feedback import score_scale
from alignflow.models.own_loss import loss_of
from alignflow.models.policy import load_learner
from alignflow.models.trainers.answer_batches import Answers
from alignflow.models.trainers.displacement import wanted_logps, warn_of_displacement
from alignflow.models.trainers.fit import Compute, Plan, StepOutput, fit
from alignflow.models.trainers.offline_rows import OfflineRows
from alignflow.models.trainers.own_reference import own_scores
from alignflow.models.trainers.passes import passes
from alignflow.models.trainers.reference_scores import References, fed_by, is_of, read_references, read_sides
from alignflow.models.trainers.row_weights import denominators, token_denominators, weighed
from alignflow.models.trainers.second_models import live_model, teacher_of, value_network
from alignflow.models.trainers.whole_step import StepFigures
from alignflow.models.trainers.with_prompts import count_prompts

START_TOLERANCE = {"fp32": 1e-4, "bf16": 1e-2}
"""Largest mean over answers of |log pi - log pi_ref| per token, nats, if both are the same model: an allowance for rounding."""

VALUE = "value"
"""Name of the engine of a value network."""

Loss = Callable[[Any], LossOutput]


@dataclass(frozen=True)
class BoundMethod:
    """A method bound to its options.

    Attributes:
        loss: Its pure function over the view of its family.
        paired: Whether that view is pairs.
        whole_step: Its statistics of whole steps.
    """

    loss: Loss
    paired: bool
    whole_step: StepFigures

    def __call__(self, answers: OfflineBatch) -> LossOutput:
        """The loss of a batch of answers, by group."""
        return self.loss(answers.pairs() if self.paired else answers)


def train_offline(
    config: AlignConfig,
    *,
    policy: Path,
    reference: Path | None = None,
    run: Run,
    **tables: Path | None,
) -> dict[str, float | None]:
    """Align the checkpoint `policy` by `config.method` on train.parquet of the given data.

    Args:
        config: The method, its options and the common fields.
        policy: The checkpoint to start from.
        reference: Output of the stage `reference` for the same data; None: the reference is `policy` itself, and scores
            the data here before training.
        run: Where to write.
        tables: Directories of data by their kind: `preferences` of pairs, `unpaired` of answers with labels, `rankings` of lists of answers
            with scores, `demonstrations` of conversations.

    Metrics: those of the method's loss for the last logged steps, and `eval_` ones on heldout.parquet.

    Raises:
        TrainingError: no rows, zero steps, scores that the method cannot use, a loss that is not finite, or log-ratios of a first batch that are not 0 though
            policy and reference are the same model.
        ModelError: a teacher has another vocabulary.
    """
    row = loaded_method(config.method)
    options = catalogue.parse_options(row, config.options, "align.options")
    row = binding.as_options_make(row, options)
    fed = fed_by(row.family, tables, "align")
    group.join(run.runtime)
    model = load_learner(policy, config, run.runtime)
    if summary := row.learns_from().feed(fed.kind).summary:
        run.note(f"{short(config.method)} reads {fed.kind}: {summary}")
    data = read_sides(fed, model, config.max_length, run, "align", row.mismatched)
    data = as_options_ask(data, config.method, options)
    engine = make_engine(model.model, config, run.runtime)
    references: References = {}
    if row.needs_reference and not row.live_reference:
        references = (
            read_references(reference, data, row.reference_tokens)
            if reference
            else own_scores(model, data, row.reference_tokens, run)
        )
    value = value_network(row, policy, run)
    settings: dict[str, Any] = {
        "needs": row.needs,
        "live": live_model(row, options, model, policy, run),
        "seed": config.seed,
        "value": value,
        "settings": {argument: getattr(options, option) for argument, option in row.measured_with},
        "constants": score_constants(data["train"]),
    }
    sides = {side: Answers(model, rows, references.get(side), **settings) for side, rows in data.items()}
    if row.needs_reference and (reference is None or is_of(reference, policy)):
        check_start(sides["train"], run)
    figures, function = StepFigures(row, options, sides, config.seed, run), loss_of(row)
    method = BoundMethod(lambda batch: function(batch, options), row.learns_from().paired, figures)
    rows = data["train"]
    # A value network is never an adapter.
    whole = config.model_copy(update={"lora": None})
    beside = {} if value is None else {VALUE: make_engine(value.model, whole, run.runtime)}
    counts, tokens = denominators(rows.weight, len(rows)), token_denominators(rows.weight, rows.wanted_tokens())
    plan = Plan("align", rows.lengths, counts, rows.ids, tokens, figures, beside)
    before = wanted_logps(sides["heldout"], run)
    metrics = fit(
        engine,
        offline_compute(sides["train"], method, config),
        plan,
        config,
        run,
        lambda: evaluate_rows(sides["heldout"], method, run),
    )
    warn_of_displacement(before, sides["heldout"], metrics, config.max_logps_drop, run)
    went_in = licences_of(policy, fed.directory, teacher_of(row, options))
    counted = {fed.kind if fed.kind != "preferences" else "pairs": str(len(rows))}
    save_model(model, run.out, card_of(row, short(config.method), options, counted, went_in))
    for each in (engine, *beside.values()):
        each.close()
    return metrics


def card_of(
    row: catalogue.Method, method: str, options: BaseModel, rows: dict[str, str], licences: str
) -> dict[str, str]:
    """The training's part of the model card."""
    paper = f" arXiv {row.paper}" if row.paper else ""
    aligned = {f"Aligned by {method}": f"Aligned by alignflow ({row.summary}{paper})."}
    return {**aligned, **rows, **settings_shown(options), "licences of what went in": licences}


def as_options_ask(data: dict[str, OfflineRows], method: str, options: StageConfig) -> dict[str, OfflineRows]:
    """The rows for the method's options; raises TrainingError for scores that they do not allow."""
    check_scores(data, method, options)
    return {side: count_prompts(rows) for side, rows in data.items()} if nll_of_prompts(options) else data


def check_scores(data: dict[str, OfflineRows], method: str, options: StageConfig) -> None:
    """Raise TrainingError if scores lie outside of what the method's options allow."""
    limits = score_range(options)
    for side, rows in data.items():
        if limits is None or rows.score is None or not len(rows.score):
            continue
        low, high = float(rows.score.min()), float(rows.score.max())
        if low < limits[0] or high > limits[1]:
            raise TrainingError(
                f"{method} with labels: scores needs scores from {limits[0]:g} to {limits[1]:g}, and those of {side} are from {low:g} to {high:g}",
                where="align.options.labels",
                do="set it to win_rates, which allows any range, or scale the scores of the data",
            )


def score_constants(train: OfflineRows) -> dict[str, torch.Tensor]:
    """`score_mean` and `score_std` of a training set with scores, for losses that normalise scores by them."""
    if train.score is None:
        return {}
    mean, deviation = score_scale(train.score)
    return {"score_mean": mean, "score_std": deviation}


def parted_losses(
    method: BoundMethod, answers: OfflineBatch, weigh: Callable[[torch.Tensor], torch.Tensor] | None = None
) -> tuple[LossOutput, dict[str, torch.Tensor]]:
    """The loss with gradients of the policy alone and, where a value network learns beside it, its sum with those of that network
    alone: two engines, two graphs. `weigh` multiplies a loss per row, (rows,), with the rows' weights.
    """
    values = answers.statistics.get("values")
    if values is None:
        return (method(answers) if weigh is None else _weighed_output(method(answers), weigh)), {}
    of_policy = replace(answers, statistics={**answers.statistics, "values": values.detach()})
    of_values = replace(answers, logps=answers.logps.detach())
    weigh = weigh or (lambda loss: loss)
    return _weighed_output(method(of_policy), weigh), {VALUE: weigh(method(of_values).loss).sum()}


def _weighed_output(output: LossOutput, weigh: Callable[[torch.Tensor], torch.Tensor]) -> LossOutput:
    tokens = None if output.token_loss is None else weigh(output.token_loss)
    return replace(output, loss=weigh(output.loss), token_loss=tokens)


def settings_shown(options: BaseModel) -> dict[str, str]:
    """The options for the model card: beta, and what is not at its default. A directory shows as the digest of its content, since
    its path is not in the key."""
    changed = options.model_dump(exclude_defaults=True)
    shown = {name: value for name, value in options.model_dump().items() if name == "beta" or name in changed}
    for name, value in shown.items():
        if content_kind(type(options), name) and Path(str(value)).is_dir():
            shown[name] = f"checkpoint with the digest {identity(Path(str(value)))[1]}"
    return {name: str(value) for name, value in shown.items()}


def offline_compute(train: Answers, method: BoundMethod, config: AlignConfig) -> Compute:
    """The function that `fit` runs on each micro-batch of training rows; `sft_coefficient` weighs the chosen answers' NLL per token
    (RPO, arXiv 2404.19733)."""

    def compute(rows: list[int]) -> StepOutput:
        answers = train.batch(rows, method.whole_step.of(rows))
        weight = train.rows.weight
        output, beside = parted_losses(method, answers, lambda loss: weighed(loss, weight, rows))
        total = output.loss.sum()
        if config.sft_coefficient:
            nll = weighed(chosen_nll(train, answers, rows), weight, train.wanted_owners(rows))
            total = total + config.sft_coefficient * nll.sum()
        shown = {name: counted(values) for name, values in output.metrics.items()}
        if train.tells_nll:
            shown["nll_loss"] = shown_nll(train, answers, rows, output)
        return StepOutput(total, shown, None if output.token_loss is None else output.token_loss.sum(), beside)

    return compute


def counted(values: torch.Tensor) -> tuple[float, float]:
    """Sum and count of figures per row; NaN for a row that has none."""
    known = ~values.detach().isnan()
    return float(values.detach()[known].sum()), float(known.sum())


def chosen_nll(side: Answers, answers: OfflineBatch, rows: list[int]) -> torch.Tensor:
    """(wanted answers,): the NLL per token of those answers of a batch that SFT would train on."""
    return -(answers.logps / answers.lengths())[side.wanted(rows)]


def shown_nll(side: Answers, answers: OfflineBatch, rows: list[int], output: LossOutput) -> tuple[float, float]:
    """Sum and count of the NLL that is shown: a mean over answers, or beside a token loss, as it enters it, over the step's tokens."""
    return counted(chosen_nll(side, answers, rows)) if output.token_loss is None else side.nll_of_tokens(answers, rows)


@torch.no_grad()
def check_start(train: Answers, run: Run) -> None:
    """Check that all log-ratios are 0 up to rounding at the start, when policy and reference are the same model; raises TrainingError."""
    rows = make_micro_batches(train.rows.lengths[:32], run.runtime.micro_batch_tokens)[0]
    answers = train.batch(rows)
    found = float((answers.logratios().abs() / answers.lengths()).mean())
    if not found <= START_TOLERANCE[run.runtime.precision]:
        raise TrainingError(
            f"the first batch's log-ratios are {found:.6f} nats per token; expected 0, since policy and reference are the same model",
            where="align, step 0",
            do="check that the reference is the model that training starts from, and that both compute log-probabilities in the same way",
        )


@torch.no_grad()
def evaluate_rows(side: Answers, method: BoundMethod, run: Run) -> dict[str, float | None]:
    """`eval_loss`, `eval_nll_loss` and the loss's metrics on held-out rows, as means over rows; the loss is weighted as in training.

    A token loss is a mean over tokens, and so is the NLL of a method with one.
    """
    rows = side.rows
    if not len(rows):
        return {}
    figures = method.whole_step.held_out()
    sums: dict[str, tuple[float, float]] = {}
    tokens = float(max(sum(token_denominators(rows.weight, rows.wanted_tokens())), 1))
    for own in passes(rows.lengths, run.runtime.micro_batch_tokens):
        answers = side.batch(own.rows, figures(own.rows))
        output, chosen = method(answers), own.rows
        output = _weighed_output(output, lambda loss, chosen=chosen: weighed(loss, rows.weight, chosen))  # type: ignore[misc]
        shown = {name: counted(values) for name, values in output.metrics.items()}
        count = float(len(output.loss)) if rows.weight is None else float(rows.weight[list(chosen)].sum())
        shown["loss"] = (
            float(output.loss.sum()),
            count,
        )  # every row has a loss: NaN means a broken model, not a missing figure
        if side.tells_nll:
            shown["nll_loss"] = shown_nll(side, answers, own.rows, output)
        if output.token_loss is not None:
            shown["token_loss"] = float(output.token_loss.sum()), 0.0
        for name, (total, count) in shown.items():  # a process without rows has the same names
            known = sums.get(name, (0.0, 0.0))
            sums[name] = (known[0] + total, known[1] + count) if own.counts else known
    totals = group.sum_all({f"{part}/{name}": pair[part] for name, pair in sums.items() for part in (0, 1)})
    found = {name: (totals[f"0/{name}"], totals[f"1/{name}"]) for name in sums}
    token_loss = found.pop("token_loss", (0.0, 0.0))[0] / tokens
    means = {f"eval_{name}": total / count if count else None for name, (total, count) in found.items()}
    return {**means, "eval_loss": (means["eval_loss"] or 0.0) + token_loss}
