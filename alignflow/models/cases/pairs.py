"""Cases of pairwise losses: which method of the catalogue a case's function is, and how its arguments and columns map to the method's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import ValidationError

from alignflow.data import catalogue
from alignflow.models.cases.base import Arguments, Caller, NotHere, Outputs, Tensors
from alignflow.models.losses.base import LossOutput, OfflineBatch, PairBatch, pairs_of_tokens
from alignflow.models.losses.reference_free import slic_hf, slic_hf_with_target
from alignflow.models.losses.weighted import wpo_weighted, wpo_weights

SIDES = ("chosen", "rejected")
SOFT = "use_soft_labels"


@dataclass(frozen=True)
class PairCase:
    """A case's function as a method.

    Attributes:
        method: Name of the method; `{kind}` stands for the case's argument `kind`.
        arguments: The case's name of an argument -> our option; options have their own names, too.
        values: Our option -> the case's value -> ours, if they differ.
        metrics: An output of the case that only this method has -> how it comes from ours.
        call: Calls the loss if a case has special columns: (batch, inputs, options) -> output; None: the method is called.
    """

    method: str
    arguments: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    metrics: Mapping[str, Callable[[LossOutput], torch.Tensor]] = field(default_factory=dict)
    call: Callable[[PairBatch, Tensors, Any], LossOutput] | None = None

    def __call__(self, inputs: Tensors, arguments: Arguments) -> Outputs:
        """The outputs of our function for a case; raises NotHere for an argument or a column that it does not have."""
        name = self.method.format(kind=arguments.take("zero", "kind")) if "{kind}" in self.method else self.method
        if name not in catalogue.METHODS:
            raise NotHere(f"method {name}")
        row = catalogue.METHODS[name]
        labels = _soft_labels(inputs) if SOFT in row.options.model_fields else None
        batch = _batch(inputs, row.needs_reference, labels)
        options = self._options(row.options, arguments, {} if labels is None else {SOFT: True})
        output = self.call(batch, inputs, options) if self.call else row.resolve()(batch, options)
        shown = output.metrics
        found = {
            "loss": _total(output, batch),
            "per_example": output.loss,
            "chosen_rewards": shown["rewards/chosen"],
            "rejected_rewards": shown["rewards/rejected"],
            "margin": shown["rewards/margins"].mean(),
            "accuracy": shown["rewards/accuracies"].double().mean(),
            "preference_loss": output.loss.mean(),
            "nll": -batch.logps()[0].sum() / batch.chosen.tokens.sum().clamp(min=1),
        }
        return found | {name: figure(output) for name, figure in self.metrics.items()}

    def _options(self, kind: Any, arguments: Arguments, implied: Mapping[str, Any]) -> Any:
        names = {**{name: name for name in kind.model_fields}, **self.arguments}
        given = dict(implied)
        for theirs, ours in names.items():
            value = arguments.take(None, theirs)
            if value is not None:
                given[ours] = self.values.get(ours, {}).get(value, value)
        try:
            return kind.model_validate(given)
        except ValidationError as error:
            raise NotHere("; ".join(f"{fault['loc'][0]}: {fault['msg']}" for fault in error.errors())) from None


def _soft_labels(inputs: Tensors) -> torch.Tensor | None:
    return next((inputs[name] for name in ("soft_labels", "soft_label") if name in inputs), None)


def _batch(inputs: Tensors, with_reference: bool, labels: torch.Tensor | None) -> PairBatch:
    """The pairs of a case; if the method compares with a reference, the reference's columns must exist."""
    policy, masks = ((inputs[f"policy_{side}"] for side in SIDES), (inputs[f"{side}_mask"] for side in SIDES))
    reference = tuple(inputs[f"ref_{side}"] for side in SIDES) if with_reference else None
    return pairs_of_tokens(tuple(policy), tuple(masks), reference, labels)


def _total(output: LossOutput, batch: PairBatch) -> torch.Tensor:
    """The trainer's reduction of an output: a mean over pairs, and one over the chosen answers' tokens."""
    loss = output.loss.mean()
    return (
        loss if output.token_loss is None else loss + output.token_loss.sum() / batch.chosen.tokens.sum().clamp(min=1)
    )


def _slic_hf(batch: PairBatch, inputs: Tensors, options: Any) -> LossOutput:
    if "target_logps" not in inputs:
        return slic_hf(batch, options)  # the chosen answer is the target
    mask = inputs["target_mask"].bool()
    return slic_hf_with_target(batch, torch.where(mask, inputs["target_logps"], 0.0).sum(1), options)


def _wpo(batch: PairBatch, inputs: Tensors, options: Any) -> LossOutput:
    return wpo_weighted(batch, inputs["chosen_weights"], inputs["rejected_weights"], options)


def _wpo_weights(inputs: Tensors, arguments: Arguments) -> Outputs:
    mask = inputs["mask"].bool()
    squares = inputs["policy_logdist"].double().exp().square().sum(-1)
    count, empty = len(mask), torch.empty(0)
    statistics = {"logps": inputs["policy_logps"][mask], "squared_probability": squares[mask]}
    answers = OfflineBatch(
        torch.arange(count), torch.zeros(count).long(), empty, mask.sum(1), empty, None, empty, statistics
    )
    return {"value": wpo_weights(answers)}


SMOOTHING = {"epsilon": "label_smoothing", "flip_prob": "label_smoothing", "eps": "label_smoothing"}
FORMS = {"truncated": "truncated_squared", "truncated_quadratic": "truncated_squared"}
DIVERGENCES = {
    "js": "js_divergence",
    "jsd": "js_divergence",
    "jensen_shannon": "js_divergence",
    "alpha": "alpha_divergence",
}
PAIRS: Mapping[str, Caller] = {
    "apo_loss": PairCase("apo_{kind}"),
    "cpo_loss": PairCase("cpo", {"nll_coef": "cpo_alpha", "alpha": "cpo_alpha"}),
    "dpo_length_normalised_loss": PairCase("dpo_length_normalised"),
    "dpo_loss": PairCase("dpo"),
    "dpop_loss": PairCase("dpop", {"lam": "dpop_lambda"}),
    "exo_pref_loss": PairCase("exo", SMOOTHING),
    "f_dpo_loss": PairCase(
        "f_dpo",
        {"divergence": "f_divergence_type", "alpha": "f_alpha_divergence_coef"},
        {"f_divergence_type": DIVERGENCES},
    ),
    "gpo_loss": PairCase("gpo", {"kind": "form"}, {"form": FORMS}),
    "hinge_dpo_loss": PairCase("rso", {"gamma": "beta"}),
    "ipo_loss": PairCase("ipo", {"tau": "beta"}),
    "nca_pair_loss": PairCase("nca"),
    "orpo_loss": PairCase(
        "orpo",
        {"lam": "beta"},
        metrics={
            "log_odds": lambda output: output.metrics["log_odds_chosen"],
            "or_loss": lambda output: -output.metrics["log_odds_ratio"].mean(),
        },
    ),
    "rdpo_loss": PairCase("rdpo"),
    "robust_dpo_loss": PairCase("robust", SMOOTHING),
    "simpo_loss": PairCase("simpo"),
    "slic_hf_loss": PairCase("slic_hf", {"lam": "reg_coef"}, call=_slic_hf),
    "wpo_loss": PairCase("wpo", call=_wpo),
    "wpo_weights": _wpo_weights,
}
"""Name in a case -> its method."""
