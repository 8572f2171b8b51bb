"""Cases of losses over single answers and over negatives: KTO, BCO, DRO-V, CRINGE, NPO, D2O, and their statistics of a whole step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ValidationError

from alignflow.data.configs import unpaired
from alignflow.models.cases.base import Arguments, Caller, NotHere, Outputs, Tensors
from alignflow.models.cringe_picks import top_others
from alignflow.models.losses.base import OfflineBatch, PairBatch, Role, answers_of_tokens, ema_update
from alignflow.models.losses.binary_feedback import bco, bco_delta, dro_v_terms, kto, kto_kl
from alignflow.models.losses.cringe import answer_terms, cringe, pairwise_cringe, token_terms
from alignflow.models.losses.negatives import d2o, npo

FP64 = torch.float64
Options = TypeVar("Options", bound=BaseModel)


def _options(kind: type[Options], **values: Any) -> Options:
    """Validated options; invalid values make the case `not here`. None means the default."""
    try:
        return kind.model_validate({name: value for name, value in values.items() if value is not None})
    except ValidationError as error:
        raise NotHere("; ".join(f"{fault['loc'][0]}: {fault['msg']}" for fault in error.errors())) from None


def _labels(inputs: Tensors) -> torch.Tensor:
    return inputs["labels"] if "labels" in inputs else inputs["label"]


def _answers(inputs: Tensors, **columns: Any) -> OfflineBatch:
    return answers_of_tokens(inputs["policy_logps"], inputs["mask"], inputs["ref_logps"], **columns)


def _kto_loss(inputs: Tensors, arguments: Arguments) -> Outputs:
    options = _options(
        unpaired.KTOOptions, **{name: arguments.take(None, name) for name in unpaired.KTOOptions.model_fields}
    )
    if "kl_policy_logps" in inputs:
        mismatched = answers_of_tokens(inputs["kl_policy_logps"], inputs["kl_mask"], inputs["kl_ref_logps"])
        z0 = kto_kl(mismatched.logratios())
    else:
        z0 = _given(inputs, arguments, "kl", "z0")
    batch = _answers(inputs, label=_labels(inputs), step={"kl": z0})
    output = kto(batch, options)
    return {
        "loss": output.loss.mean(),
        "per_example": output.loss,
        "kl": z0,
        "rewards": options.beta * batch.logratios(),
    }


def _given(inputs: Tensors, arguments: Arguments, *names: str) -> torch.Tensor:
    """A scalar of the whole step, from a column or an argument."""
    column = next((inputs[name] for name in names if name in inputs), None)
    value = arguments.take(None, *names) if column is None else column
    if value is None:
        raise NotHere(f"the case has no {names[0]}")
    return torch.as_tensor(value, dtype=FP64)


def _bco_loss(inputs: Tensors, arguments: Arguments) -> Outputs:
    options = _options(unpaired.BCOOptions, beta=arguments.take(None, "beta"))
    batch = _answers(inputs, label=_labels(inputs), step={"delta": _given(inputs, arguments, "delta")})
    output = bco(batch, options)
    return {"loss": output.loss.mean(), "per_example": output.loss, "rewards": options.beta * batch.logratios()}


def _bco_delta(inputs: Tensors, arguments: Arguments) -> Outputs:
    options = _options(unpaired.BCOOptions, delta_kind=arguments.take(None, "kind"))
    return {"value": bco_delta(inputs["rewards"], _labels(inputs), None, options)[0]}


def _dro_v_loss(inputs: Tensors, arguments: Arguments) -> Outputs:
    """Computed from the terms of `dro_v`: a case has V also for an answer without tokens, and expects the objective's gradient."""
    options = _options(unpaired.DROVOptions, tau=arguments.take(None, "tau"), normalise_scores=False)
    batch, values = _answers(inputs, score=inputs["rewards"]), inputs["values"]
    terms = dro_v_terms(batch.logps, batch.logratios(), inputs["rewards"], values, options.tau)
    return {
        "loss": terms.joint.mean(),
        "policy_loss": terms.policy.mean(),
        "value_loss": terms.value.mean(),
        "residual": terms.residual,
        "grad_value": -terms.residual / max(len(values), 1),
    }


def _picked(
    logits: torch.Tensor, tokens: torch.Tensor, picks: torch.Tensor, mask: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Output of a forward pass with `cringe_positive` for the tokens under the mask and these picks: figures (N,)."""
    logps = logits[mask].log_softmax(-1)
    ids = {"logps": tokens[mask].long(), "cringe_positive": picks[mask].long()}
    return {name: logps.gather(-1, places[:, None])[:, 0] for name, places in ids.items()}


def _cringe_token_terms(inputs: Tensors, arguments: Arguments) -> Outputs:
    tokens = inputs["tokens"]
    mask = inputs["mask"].bool() if "mask" in inputs else torch.ones_like(tokens).bool()
    figures = _picked(inputs["logits"], tokens, inputs["picks"], mask)
    found = torch.zeros_like(tokens).masked_scatter(mask, token_terms(figures["logps"], figures["cringe_positive"]))
    return {"value": found}


def _cringe_top_pick(inputs: Tensors, arguments: Arguments) -> Outputs:
    k, logits, tokens = arguments.take(None, "k"), inputs["logits"], inputs["tokens"]
    options = _options(unpaired.CRINGEOptions, alpha=1.0, top_k=k)
    ids, probabilities = top_others(logits.flatten(0, -2), tokens.flatten().long(), options.top_k)
    return {"indices": ids.view(*tokens.shape, -1), "probs": probabilities.view(*tokens.shape, -1)}


def _negatives(inputs: Tensors, prefix: str) -> OfflineBatch:
    """Negative answers of a case, which gives them as logits."""
    mask = inputs[f"{prefix}_mask"].bool()
    figures = _picked(inputs[f"{prefix}_logits"], inputs[f"{prefix}_tokens"], inputs["picks"], mask)
    logps = torch.zeros_like(mask, dtype=FP64).masked_scatter(mask, figures["logps"])
    return answers_of_tokens(logps, mask, statistics={"cringe_positive": figures["cringe_positive"]})


def _joined(first: OfflineBatch, second: OfflineBatch, **columns: Any) -> OfflineBatch:
    """Two batches as one, with other columns."""
    names = ("group", "role", "logps", "tokens", "ended", "soft_label")
    both = {name: torch.cat([getattr(first, name), getattr(second, name)]) for name in names}
    reference = None
    if first.reference_logps is not None and second.reference_logps is not None:
        reference = torch.cat([first.reference_logps, second.reference_logps])
    statistics = {name: torch.cat([first.statistics[name], second.statistics[name]]) for name in first.statistics}
    return OfflineBatch(**{**both, "reference_logps": reference, "statistics": statistics, **columns})


def _cringe_loss(inputs: Tensors, arguments: Arguments) -> Outputs:
    if (reduction := arguments.take(None, "reduction")) != "sum":
        raise NotHere(f"reduction {reduction}")
    positives, negatives = answers_of_tokens(inputs["pos_logps"], inputs["pos_mask"]), _negatives(inputs, "neg")
    positives = replace(
        positives, statistics={**positives.statistics, "cringe_positive": positives.statistics["logps"].detach()}
    )
    label = torch.cat([torch.ones(len(positives.tokens)), torch.zeros(len(negatives.tokens))])
    batch = _joined(positives, negatives, label=label, step={"undesirable": (1 - label).mean(dtype=FP64)})
    output = cringe(batch, _options(unpaired.CRINGEOptions, alpha=arguments.take(None, "alpha"), top_k=1))
    return {"loss": output.loss.mean(), "ce": output.metrics["nll"].nanmean(), "cringe": answer_terms(negatives).mean()}


def _pairwise_cringe_loss(inputs: Tensors, arguments: Arguments) -> Outputs:
    live = not arguments.frozen  # if the gate is a weight in the case, its margin gets no gradient
    options = _options(
        unpaired.PairwiseCRINGEOptions,
        top_k=1,
        detach_gate=arguments.take(not live, "detach_gate"),
        **{name: arguments.take(None, name) for name in ("alpha", "b", "tau")},
    )
    chosen, rejected = answers_of_tokens(inputs["chosen_logps"], inputs["chosen_mask"]), _negatives(inputs, "rejected")
    output = pairwise_cringe(PairBatch(chosen, rejected), options)
    return {
        "loss": output.loss.mean(),
        "per_example": output.loss,
        "gate": output.metrics["gate"],
        "margin": output.metrics["rewards/margins"],
    }


def _npo_loss(inputs: Tensors, arguments: Arguments) -> Outputs:
    """The case gives the NLL of the retained answers as a number: here one answer of one token has it."""
    forget = answers_of_tokens(inputs["forget_policy"], inputs["forget_mask"], inputs["forget_ref"])
    retain_nll = torch.as_tensor(arguments.take(0.0, "retain_nll"), dtype=FP64).view(1, 1)
    retained = answers_of_tokens(-retain_nll, torch.ones(1, 1), -retain_nll)
    label = torch.cat([torch.zeros(len(forget.tokens)), torch.ones(1)])
    share = (1 - label).mean(dtype=FP64)
    options = _options(
        unpaired.NPOOptions, beta=arguments.take(None, "beta"), retain_weight=arguments.take(None, "retain_coef")
    )
    output = npo(_joined(forget, retained, label=label, step={"undesirable": share}), options)
    assert output.token_loss is not None
    return {
        "loss": output.loss.mean() + output.token_loss.sum(),
        "per_example": output.loss[:-1] * share,
        "gradient_weight": output.metrics["gradient_weight"][:-1],
    }


def _d2o_loss(inputs: Tensors, arguments: Arguments) -> Outputs:
    sides, groups = [], len(inputs["neg_mask"])
    for name, role in (("neg", Role.REJECTED), ("self", Role.OTHER)):
        policy, mask, reference = (inputs[f"{name}_{column}"] for column in ("policy", "mask", "ref"))
        group = torch.arange(groups) if role == Role.REJECTED else torch.arange(groups).repeat_interleave(mask.shape[1])
        flat = (values.reshape(-1, values.shape[-1]) for values in (policy, mask, reference))
        sides.append(answers_of_tokens(*flat, group=group, role=torch.full(group.shape, int(role))))
    options = _options(unpaired.D2OOptions, **{name: arguments.take(None, name) for name in ("beta", "alpha")})
    output = d2o(_joined(*sides), options)
    shown = {"anchor_reward": "rewards/chosen", "negative_reward": "rewards/rejected", "margin": "rewards/margins"}
    return {
        "loss": output.loss.mean(),
        "per_example": output.loss,
        **{name: output.metrics[ours] for name, ours in shown.items()},
    }


UNPAIRED: Mapping[str, Caller] = {
    "bco_delta": _bco_delta,
    "bco_loss": _bco_loss,
    "cringe_loss": _cringe_loss,
    "cringe_token_terms": _cringe_token_terms,
    "cringe_top_pick": _cringe_top_pick,
    "d2o_loss": _d2o_loss,
    "dro_v_loss": _dro_v_loss,
    "ema_update": lambda inputs, arguments: {
        "value": ema_update(inputs["prev"], inputs["new"], arguments.take(0.9, "momentum"))
    },
    "kto_loss": _kto_loss,
    "npo_loss": _npo_loss,
    "pairwise_cringe_loss": _pairwise_cringe_loss,
}
"""Name in a case -> function that calls ours."""
