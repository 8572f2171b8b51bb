"""Cases of whole distributions over the vocabulary and of single tokens, through the head's statistics; and of beta-DPO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from pydantic import ValidationError

from alignflow.data.configs.base import StageConfig
from alignflow.data.configs.token_level import BetaDPOOptions, GKDOptions, LDDPOOptions, TDPO1Options, TDPO2Options
from alignflow.models.cases.base import Arguments, Caller, NotHere, Outputs, Tensors
from alignflow.models.head import Head, Reference, Request, Scaling, head_statistics
from alignflow.models.losses.base import LossOutput, OfflineBatch, PairBatch, Role, pairs_of_tokens
from alignflow.models.losses.beta_dpo import GapAverages, batch_beta, beta_dpo, filter_log_weights, gaps_of
from alignflow.models.losses.token_level import gkd, ld_dpo, sequential_kl, tdpo1, tdpo2, token_logratios, token_rewards
from alignflow.models.sequences import prefix_sums
from alignflow.models.token_statistics import Chunk, TokenStatistics

SIDES = ("chosen", "rejected")
Distributions = tuple[torch.Tensor, torch.Tensor | None]
"""Logits (tokens, vocabulary) of the policy and of its reference."""


def _statistics(
    logits: Distributions, which: tuple[str, ...], targets: torch.Tensor | None = None, options: Any = None
) -> dict[str, Any]:
    """Figures of the head for tokens whose logits are given, each (tokens,): the head is the identity matrix, so its products are the logits."""
    policy, reference = logits
    width = policy.shape[-1]
    module: torch.nn.Module = torch.nn.Linear(width, width, bias=False, dtype=policy.dtype).requires_grad_(False)
    module.weight.copy_(torch.eye(width))
    if not all(rows.isfinite().all() for rows in logits if rows is not None):
        module = (
            torch.nn.Identity()
        )  # a product with 0 is NaN: a head that is not a plain matrix gets its gradient from autograd
    head = Head(module, Scaling(temperature=getattr(options, "temperature", 1.0)), policy.dtype)
    if targets is None:
        targets = torch.zeros(len(policy)).long()
    compared = None if reference is None else Reference(head, reference.detach())
    request = Request(which, targets, 1, compared, jsd_beta=getattr(options, "beta", 0.5))
    return dict(zip(which, head_statistics(head, policy, request), strict=True))


def _answers(mask: torch.Tensor, statistics: Mapping[str, torch.Tensor], role: Role = Role.OTHER) -> OfflineBatch:
    """Answers made of the tokens under a mask, (answers, time), with figures per token."""
    count, figures = len(mask), TokenStatistics(mask.nonzero()[:, 0], len(mask), dict(statistics))
    return OfflineBatch(
        group=torch.arange(count),
        role=torch.full((count,), int(role)),
        tokens=mask.sum(1),
        ended=torch.ones(count).bool(),
        logps=figures.sums() if "logps" in statistics else torch.full((count,), float("nan")),
        reference_logps=figures.sums("reference_logps") if "reference_logps" in statistics else None,
        soft_label=torch.full((count,), float("nan")),
        statistics=statistics,
    )


def _options(kind: type[StageConfig], arguments: Arguments, names: Mapping[str, tuple[str, ...]]) -> Any:
    """Options of a method from a case's arguments; raises NotHere for values that it does not have."""
    given = {
        ours: value for ours, theirs in names.items() if (value := arguments.take(None, ours, *theirs)) is not None
    }
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise NotHere("; ".join(f"{fault['loc'][0]}: {fault['msg']}" for fault in error.errors())) from None


def _grid(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Values per token at the places of a mask; 0 elsewhere."""
    return values.new_zeros(mask.shape).masked_scatter(mask, values)


def _of_pairs(output: LossOutput) -> Outputs:
    shown = output.metrics
    return {
        "loss": output.loss.mean(),
        "per_example": output.loss,
        "chosen_rewards": shown["rewards/chosen"],
        "rejected_rewards": shown["rewards/rejected"],
        "margin": shown["rewards/margins"].mean(),
        "accuracy": shown["rewards/accuracies"].double().mean(),
    }


def _tdpo_loss(inputs: Tensors, arguments: Arguments) -> Outputs:
    second = arguments.take(2, "variant", "version") == 2 and arguments.take(True, "if_tdpo2", "tdpo2")
    kind, names = (TDPO2Options, ("beta", "alpha")) if second else (TDPO1Options, ("beta",))
    if not second:
        arguments.take(None, "alpha")  # the first form has no alpha
    options = _options(kind, arguments, dict.fromkeys(names, ()))
    sides = []
    for role, side in enumerate(SIDES):
        mask = inputs[f"{side}_mask"].bool()
        logits = inputs[f"policy_{side}_logdist"][mask], inputs[f"ref_{side}_logdist"][mask]
        found = _statistics(logits, ("logps", "forward_kl", "reference_logps"), inputs[f"{side}_tokens"][mask].long())
        sides.append(_answers(mask, found, Role(role)))
    output = tdpo2(PairBatch(*sides), options) if second else tdpo1(PairBatch(*sides), options)
    return _of_pairs(output) | {f"{side}_seq_kl": output.metrics[f"seq_kl/{side}"] for side in SIDES}


def _sequential_kl(inputs: Tensors, arguments: Arguments) -> Outputs:
    mask = inputs["mask"].bool()
    found = _statistics((inputs["policy_logdist"][mask], inputs["ref_logdist"][mask]), ("forward_kl",))
    return {"value": sequential_kl(_answers(mask, found))}


def _full_kl(inputs: Tensors, arguments: Arguments) -> Outputs:
    mask = inputs["mask"].bool()
    found = _statistics((inputs["p_logdist"][mask], inputs["q_logdist"][mask]), ("reverse_kl",))
    return {"per_token": _grid(found["reverse_kl"], mask), "sequence": _answers(mask, found).sums(found["reverse_kl"])}


def _gkd_loss(inputs: Tensors, arguments: Arguments) -> Outputs:
    options = _options(GKDOptions, arguments, {"beta": (), "temperature": (), "lmbda": ()})
    mask = inputs["mask"].bool()
    logits = inputs["student_logits"][mask], inputs["teacher_logits"][mask]
    output = gkd(_answers(mask, _statistics(logits, ("generalized_jsd",), options=options)), options)
    assert output.token_loss is not None
    return {"loss": output.token_loss.sum() / mask.sum().clamp(min=1), "per_example": output.metrics["divergence"]}


def _dpo_token_rewards(inputs: Tensors, arguments: Arguments) -> Outputs:
    mask = inputs["mask"].bool()
    answers = _answers(mask, {"logps": inputs["policy_logps"][mask], "reference_logps": inputs["ref_logps"][mask]})
    rewards = token_rewards(answers, arguments.take(0.1, "beta"))
    running = _grid(prefix_sums(rewards, answers.tokens), mask)
    latest = (mask * torch.arange(mask.shape[1])).cummax(1).values  # outside of the mask the sum does not change
    return {
        "token_rewards": _grid(rewards, mask),
        "prefix_rewards": running.gather(1, latest),
        "sequence_reward": answers.sums(rewards),
        "logratios": _grid(token_logratios(answers), mask),
    }


def _pairs(inputs: Tensors) -> PairBatch:
    columns = {kind: (inputs[f"{kind}_{SIDES[0]}"], inputs[f"{kind}_{SIDES[1]}"]) for kind in ("policy", "ref")}
    return pairs_of_tokens(columns["policy"], (inputs["chosen_mask"], inputs["rejected_mask"]), columns["ref"])


def _ld_dpo_loss(inputs: Tensors, arguments: Arguments) -> Outputs:
    return _of_pairs(ld_dpo(_pairs(inputs), _options(LDDPOOptions, arguments, {"beta": (), "ld_alpha": ("alpha",)})))


def _beta_dpo_loss(inputs: Tensors, arguments: Arguments) -> Outputs:
    mean, frozen = arguments.take(0.0, "m0"), arguments.take(None, "frozen_beta")
    options = _options(BetaDPOOptions, arguments, {"beta": ("beta0",), "alpha": (), "scale_gap_by_beta": ()})
    pairs = _pairs(inputs)
    gaps = gaps_of(pairs, options)
    beta = batch_beta(gaps, mean, options) if frozen is None else torch.tensor(frozen, dtype=gaps.dtype)
    output = beta_dpo(PairBatch(replace(pairs.chosen, step={"beta": beta}), pairs.rejected), options)
    return _of_pairs(output) | {"beta": beta, "gap": gaps}


def _beta_dpo_filter_weights(inputs: Tensors, arguments: Arguments) -> Outputs:
    averages = GapAverages(arguments.take(0.0, "m0", "mean"), arguments.take(1.0, "sigma", "std"))
    return {"value": filter_log_weights(inputs["gaps"], averages).exp()}


def _entropy_from_logits(inputs: Tensors, arguments: Arguments) -> Outputs:
    logits = inputs["logits"]
    found = _statistics((logits.reshape(-1, logits.shape[-1]), None), ("entropy",))["entropy"]
    return {"value": found.view(logits.shape[:-1])}


def _gather_token_logps(inputs: Tensors, arguments: Arguments) -> Outputs:
    logits, tokens = (
        inputs["logits"][:, :-1],
        inputs["tokens"][:, 1:].long(),
    )  # the last logits predict no token, and no logits predict the first token
    found = _statistics((logits.flatten(0, 1), None), ("logps",), tokens.flatten())["logps"]
    return {"value": found.view(tokens.shape)}


def _logsumexp(inputs: Tensors, arguments: Arguments) -> Outputs:
    rows = inputs["x"].reshape(-1, inputs["x"].shape[-1])
    return {"value": Chunk(rows, torch.zeros(len(rows)).long(), 1, None).normaliser.view(inputs["x"].shape[:-1])}


TOKEN_LEVEL: Mapping[str, Caller] = {
    "beta_dpo_filter_weights": _beta_dpo_filter_weights,
    "beta_dpo_loss": _beta_dpo_loss,
    "dpo_token_rewards": _dpo_token_rewards,
    "entropy_from_logits": _entropy_from_logits,
    "full_kl": _full_kl,
    "gather_token_logps": _gather_token_logps,
    "gkd_loss": _gkd_loss,
    "ld_dpo_loss": _ld_dpo_loss,
    "logsumexp": _logsumexp,
    "sequential_kl": _sequential_kl,
    "tdpo_loss": _tdpo_loss,
}
"""Name in a case -> function that calls ours."""
