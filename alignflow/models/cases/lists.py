"""Cases of losses over several answers to a prompt, of their weights and labels, and of a reward model's K-wise loss.

Columns are (prompts, answers) or (prompts, answers, time). An answer that a column of PRESENT leaves out, or whose label is NaN,
is in no list; an answer without tokens is in its list.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import ValidationError

from alignflow.data.catalogue import METHODS
from alignflow.data.configs.training import RewardConfig
from alignflow.models.cases.base import Arguments, Caller, NotHere, Outputs, Tensors, token_statistics
from alignflow.models.losses.base import LossOutput, OfflineBatch
from alignflow.models.losses.lists import Lists, lists_of
from alignflow.models.losses.listwise import lambda_weights, ordinal_ranks, plackett_luce_nll, pro_terms, win_rates
from alignflow.models.losses.reward import reward_ranking

PRESENT = ("list_mask", "answer_mask", "response_mask", "candidate_mask", "valid")
LABELS = ("labels", "rewards", "scores")
RAX = ("reduction", "variant", "style")


def _scores(inputs: Tensors, names: tuple[str, ...], masks: tuple[str, ...] = PRESENT) -> torch.Tensor:
    """(prompts, answers) labels, NaN for an answer that is not in the list."""
    labels = _column(inputs, names)
    mask = next((inputs[name].bool() for name in masks if name in inputs), torch.ones_like(labels).bool())
    return torch.where(mask, labels, torch.nan)


def _column(inputs: Tensors, names: tuple[str, ...]) -> torch.Tensor:
    return inputs[next((name for name in names if name in inputs), names[0])]


def _batch(inputs: Tensors, with_reference: bool) -> OfflineBatch:
    """The answers of a case, prompt after prompt."""
    scores, mask = _scores(inputs, LABELS), inputs["mask"]
    answers, own = torch.arange(scores.numel()), mask.flatten(0, 1)
    statistics = token_statistics(inputs["policy_logps"].flatten(0, 1), own)
    reference = token_statistics(inputs["ref_logps"].flatten(0, 1), own).sums() if with_reference else None
    return OfflineBatch(
        group=answers // scores.shape[1],
        role=torch.full_like(answers, 2),
        logps=statistics.sums(),
        tokens=statistics.counts().long(),
        ended=torch.ones_like(answers).bool(),
        reference_logps=reference,
        soft_label=torch.full((len(answers),), torch.nan),
        score=scores.flatten(),
    )


def _loss(name: str, inputs: Tensors, options: Mapping[str, Any]) -> tuple[LossOutput, OfflineBatch, Lists]:
    """A method's output for a case; raises NotHere for an option that it does not have."""
    row = METHODS[name]
    batch = _batch(inputs, row.needs_reference)
    try:
        given = row.options.model_validate({option: value for option, value in options.items() if value is not None})
    except ValidationError as error:
        raise NotHere("; ".join(f"{fault['loc'][0]}: {fault['msg']}" for fault in error.errors())) from None
    return row.resolve()(batch, given), batch, lists_of(batch)


def _grid(inputs: Tensors, values: torch.Tensor) -> torch.Tensor:
    """(prompts, answers) of (answers,), in the case's shape."""
    return values.view(inputs["mask"].shape[:2])


def _lipo(inputs: Tensors, arguments: Arguments) -> Outputs:
    beta = arguments.take(0.05, "beta")
    reduction = arguments.take("sum", *RAX)
    output, batch, lists = _loss("lipo", inputs, {"beta": beta, "labels": "scores", "reduction": reduction})
    scores = beta * batch.logratios()
    weights = torch.where(lists.better(), lambda_weights(lists.grid(scores), lists.labels, lists.mask), 0.0)
    found = {"loss": output.loss.mean(), "per_example": output.loss, "scores": _grid(inputs, scores)}
    return found if reduction == "rax" else {**found, "delta": weights}


def _mask(labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mask = ~labels.isnan()
    return torch.where(mask, labels, 0.0), mask


def _lipo_weights(inputs: Tensors, arguments: Arguments) -> Outputs:
    labels, mask = _mask(_scores(inputs, ("labels",), ("mask", *PRESENT)))
    return {"value": lambda_weights(inputs["scores"], labels, mask)}


def _list_mle(inputs: Tensors, arguments: Arguments) -> Outputs:
    labels, mask = _mask(_scores(inputs, ("labels",), ("mask", *PRESENT)))
    loss = plackett_luce_nll(inputs["scores"], labels, mask)
    return {"loss": loss.mean(), "per_example": loss}


def _rrhf(inputs: Tensors, arguments: Arguments) -> Outputs:
    options = {
        "rank_weight": arguments.take(None, "rank_weight", "rrhf_weight"),
        "sft_reduction": arguments.take(None, "sft_reduction", "sft"),
    }
    output, batch, _ = _loss("rrhf", inputs, options)
    rank, sft = (output.metrics[name].mean() for name in ("rank_loss", "sft_loss"))
    return {
        "loss": output.loss.mean(),
        "per_example": output.loss,
        "rank_loss": rank,
        "sft_loss": sft,
        "scores": _grid(inputs, batch.logps / batch.lengths()),
    }


def _pro(inputs: Tensors, arguments: Arguments) -> Outputs:
    output, batch, lists = _loss("pro", inputs, {})
    terms = pro_terms(lists.grid(batch.logps / batch.lengths()), lists.labels, lists.mask)
    return {
        "loss": output.loss.mean(),
        "per_example": output.loss,
        "rank_terms": terms[:, :-1].mean(0),
        "sft_loss": output.metrics["sft_loss"].mean(),
    }


def _reward_ranking(inputs: Tensors, arguments: Arguments) -> Outputs:
    rewards, labels = inputs["rewards"], _scores(inputs, ("ranks", "labels"), ("mask", *PRESENT))
    config = RewardConfig(
        l2_coefficient=arguments.take(0.0, "l2_coefficient", "regularization", "l2_coef", "lambda2"),
        center_rewards_coefficient=arguments.take(0.0, "center_rewards_coefficient", "center_coef", "center", "c"),
    )
    group = torch.arange(labels.numel()) // labels.shape[1]
    output = reward_ranking(rewards.flatten(), labels.flatten(), group, config)
    return {"loss": output.loss.mean(), "per_prompt": output.loss}


def _everywhere(scores: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(scores).bool()


def _win_rates(inputs: Tensors, arguments: Arguments) -> Outputs:
    preferences = inputs["pref"]
    return {"value": win_rates(preferences, _everywhere(preferences[..., 0]), arguments.take(False, "include_self"))}


def _lipo_labels(inputs: Tensors, arguments: Arguments) -> Outputs:
    return {"value": win_rates(inputs["win_prob"], _everywhere(inputs["win_prob"][..., 0]), include_self=True)}


LISTS: Mapping[str, Caller] = {
    "lipo_label_from_matrix": _lipo_labels,
    "lipo_lambda_loss": _lipo,
    "lipo_lambda_weights": _lipo_weights,
    "list_mle_loss": _list_mle,
    "ordinal_ranks": lambda inputs, arguments: {
        "value": ordinal_ranks(inputs["scores"], _everywhere(inputs["scores"]))
    },
    "pro_loss": _pro,
    "reward_ranking_loss": _reward_ranking,
    "rrhf_loss": _rrhf,
    "win_rates": _win_rates,
}
"""Name in a case -> function that calls ours."""
