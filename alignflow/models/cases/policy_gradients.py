"""Cases of advantages and losses of the policy-gradient methods without a value model."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import ValidationError

from alignflow.data import catalogue
from alignflow.data.configs.online import OnlineOptions
from alignflow.models.advantages import RewardBatch
from alignflow.models.cases.base import Arguments, Caller, NotHere, Outputs, Tensors, mean, token_statistics
from alignflow.models.group_advantages import group_centred, group_normalised, leave_one_out
from alignflow.models.losses.ppo import KL_ESTIMATORS, PolicyBatch, masked_difference
from alignflow.models.rewards.shaping import kl_penalised_rewards

CLIP = ("clip", "eps", "epsilon", "cliprange", "clip_range", "clip_eps")


def _flat_groups(rewards: torch.Tensor) -> torch.Tensor:
    return torch.arange(rewards.numel()) // rewards.shape[1]


def _everyone(rewards: torch.Tensor) -> torch.Tensor:
    return torch.ones(rewards.numel(), dtype=torch.bool)


def _group_rewards(inputs: Tensors, arguments: Arguments) -> torch.Tensor:
    """(prompts, answers) scores, minus kl_coef times the answers' KL if a case has one."""
    rewards, coefficient = inputs["rewards"], arguments.take(0.0, "kl_coef")
    if "kl" in inputs:
        return rewards - coefficient * inputs["kl"]
    if "logps" not in inputs:
        return rewards
    mask = inputs["mask"].bool()
    return rewards - coefficient * masked_difference(inputs["logps"], inputs["ref_logps"], mask).sum(-1)


def _rloo_advantages(inputs: Tensors, arguments: Arguments) -> Outputs:
    rewards = _group_rewards(inputs, arguments)
    found = leave_one_out(rewards.flatten(), _flat_groups(rewards), _everyone(rewards))
    return {"advantages": found.view_as(rewards), "regularised_rewards": rewards}


def _grpo_advantages(inputs: Tensors, arguments: Arguments) -> Outputs:
    rewards, scale = inputs["rewards"], arguments.take(True, "scale", "scale_rewards", "normalise", "normalize")
    estimate = group_normalised if scale else group_centred
    return {"value": estimate(rewards.flatten(), _flat_groups(rewards), _everyone(rewards)).view_as(rewards)}


def _reinforce_pp_advantages(inputs: Tensors, arguments: Arguments) -> Outputs:
    coefficient, mask = arguments.take(0.01, "kl_coef"), inputs["mask"].bool()
    _only(arguments, "unbiased", False)
    rewards = kl_penalised_rewards(inputs["scores"], inputs["logps"], inputs["ref_logps"], mask, coefficient)
    return {"value": _estimated("reinforce_pp", rewards, mask, torch.arange(len(mask)), arguments)}


def _reinforce_pp_baseline_advantages(inputs: Tensors, arguments: Arguments) -> Outputs:
    scores, mask = inputs["rewards"], inputs["mask"].bool()
    flat = mask.flatten(0, 1)
    _only(arguments, "unbiased", True)
    no_kl = torch.zeros_like(flat, dtype=torch.float64)
    rewards = kl_penalised_rewards(scores.flatten(), no_kl, no_kl, flat, 0.0)
    found = _estimated("reinforce_pp_baseline", rewards, flat, _flat_groups(scores), arguments)
    return {"value": found.view_as(mask)}


def _only(arguments: Arguments, name: str, ours: bool) -> None:
    if arguments.take(ours, name) != ours:
        raise NotHere(f"{name} {not ours}")


def _estimated(
    name: str, rewards: torch.Tensor, mask: torch.Tensor, groups: torch.Tensor, arguments: Arguments
) -> torch.Tensor:
    """Advantages by an estimator of the catalogue, normalised over all tokens."""
    options = OnlineOptions(gamma=arguments.take(1.0, "gamma"), whiten_advantages=True)
    estimator = catalogue.ADVANTAGES[name].resolve()
    found: torch.Tensor = estimator(RewardBatch(rewards, None, mask, groups), options).advantages
    return found


def _policy_loss(name: str, inputs: Tensors, options: OnlineOptions, old_logps: torch.Tensor) -> torch.Tensor:
    mask = inputs["mask"].bool()
    given = inputs["advantages"]
    advantages = given if given.ndim == 2 else given[:, None].expand_as(mask)
    batch = PolicyBatch(inputs["logps"], old_logps, advantages, mask)
    found: torch.Tensor = catalogue.POLICY_LOSSES[name].resolve()(batch, options).loss
    return found


def _rloo_loss(inputs: Tensors, arguments: Arguments) -> Outputs:
    """A case without old log-probabilities has REINFORCE's value; its gradient is that of the clipped loss at ratio 1."""
    mask, options = inputs["mask"].bool(), _options(cliprange=arguments.take(0.2, *CLIP))
    if "old_logps" in inputs:
        return {"loss": mean(_policy_loss("sequence_clip", inputs, options, inputs["old_logps"]), mask, "sequence")}
    own = mean(_policy_loss("sequence_clip", inputs, options, inputs["logps"].detach()), mask, "sequence")
    value = -(inputs["advantages"] * token_statistics(inputs["logps"].detach(), mask).sums()).mean()
    return {"loss": own + (value - own).detach()}


def _options(**given: object) -> OnlineOptions:
    try:
        return OnlineOptions.model_validate(given)
    except ValidationError as error:
        raise NotHere("; ".join(f"{fault['loc'][0]}: {fault['msg']}" for fault in error.errors())) from None


def _grpo_loss(inputs: Tensors, arguments: Arguments) -> Outputs:
    """The mean over answers of clipped loss and KL, or another mean by `aggregate`; an answer without tokens counts as 0."""
    mask, aggregate = inputs["mask"].bool(), arguments.take("sequence", "aggregate", "reduction", "loss_type")
    beta, estimator = arguments.take(0.04, "beta", "kl_coef"), arguments.take("k3", "estimator", "kl_estimator")
    low = arguments.take(0.2, "clip_low", "eps_low", "epsilon_low", *CLIP)
    high = arguments.take(None, "clip_high", "eps_high", "epsilon_high")
    length = arguments.take(None, "length", "constant", "max_length", "max_completion_length")
    options = _options(cliprange=low, cliprange_high=high)
    loss = _policy_loss("clip", inputs, options, inputs["old_logps"])
    kl = KL_ESTIMATORS[estimator](masked_difference(inputs["logps"], inputs["ref_logps"], mask))
    both = loss + beta * torch.where(mask, kl, 0.0)
    if aggregate == "constant":
        if length is None:
            raise NotHere("aggregate constant without its length")
        return {"loss": both.sum() / (len(mask) * length), "kl": mean(kl, mask, "token")}
    return {"loss": mean(both, mask, aggregate), "kl": mean(kl, mask, "token")}


POLICY_GRADIENTS: Mapping[str, Caller] = {
    "grpo_advantages": _grpo_advantages,
    "grpo_loss": _grpo_loss,
    "reinforce_pp_advantages": _reinforce_pp_advantages,
    "reinforce_pp_baseline_advantages": _reinforce_pp_baseline_advantages,
    "rloo_advantages": _rloo_advantages,
    "rloo_loss": _rloo_loss,
}
"""Name in a case -> function that calls ours."""
