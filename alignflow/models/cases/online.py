"""Cases of methods that sample: KL, rewards, advantages, PPO's losses."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from alignflow.data.configs.online import OnlineOptions
from alignflow.models.advantages import discounted_returns, gae, whiten
from alignflow.models.cases.base import Arguments, Caller, NotHere, Outputs, Tensors, mean, token_statistics
from alignflow.models.losses.ppo import (
    KL_ESTIMATORS,
    PolicyBatch,
    TokenLoss,
    clipped_policy_loss,
    clipped_value_loss,
    masked_difference,
    total_loss,
)
from alignflow.models.rewards.shaping import ScoreScale, adaptive_kl_coefficient, kl_penalised_rewards, shaped_scores


def _kl_estimators(inputs: Tensors, arguments: Arguments) -> Outputs:
    mask = inputs["mask"].bool()
    logratio = masked_difference(inputs["logps"], inputs["ref_logps"], mask)
    found: Outputs = {name: torch.where(mask, function(logratio), 0.0) for name, function in KL_ESTIMATORS.items()}
    means = {f"{name}_mean": mean(values, mask, "token") for name, values in found.items()}
    return {**found, **means, "seq_k1": token_statistics(found["k1"], mask).sums()}


def _kl_penalised_rewards(inputs: Tensors, arguments: Arguments) -> Outputs:
    coefficient = arguments.take(0.05, "kl_coef")
    estimator = arguments.take("k1", "estimator", "kl_estimator", "kind")
    ended = next((inputs[name].bool() for name in ("ended", "has_eos", "contains_eos") if name in inputs), None)
    if "truncated" in inputs:
        ended = ~inputs["truncated"].bool()
    penalty, clip = (
        arguments.take(None, "missing_eos_penalty", "eos_penalty"),
        arguments.take(None, "score_clip", "clip_score", "reward_clip"),
    )
    options = OnlineOptions(missing_eos_penalty=penalty, score_clip=clip)
    scores = shaped_scores(
        inputs["scores"], torch.ones_like(inputs["scores"]).bool() if ended is None else ended, ScoreScale(), options
    )
    if estimator not in KL_ESTIMATORS:
        raise NotHere(f"estimator {estimator}")
    return {
        "value": kl_penalised_rewards(
            scores, inputs["logps"], inputs["ref_logps"], inputs["mask"], coefficient, estimator
        )
    }


BOOTSTRAPS = ("bootstrap", "bootstrap_value", "bootstrap_values", "last_value", "last_values")


def _gae(inputs: Tensors, arguments: Arguments) -> Outputs:
    gamma, lam = arguments.take(1.0, "gamma"), arguments.take(0.95, "lam", "lambda_")
    given = next((inputs[name] for name in BOOTSTRAPS if name in inputs), arguments.take(None, *BOOTSTRAPS))
    rewards = inputs["rewards"]
    last = None if given is None else torch.as_tensor(given, dtype=rewards.dtype).expand(len(rewards))
    advantages, returns = gae(rewards, inputs["values"], inputs["mask"], gamma, lam, last)
    return {"advantages": advantages, "returns": returns}


def _masked_whiten(inputs: Tensors, arguments: Arguments) -> Outputs:
    shift, unbiased = arguments.take(True, "shift_mean"), arguments.take(True, "unbiased")
    return {"value": whiten(inputs["values"], inputs["mask"], shift, unbiased)}


def _ppo_policy_loss(inputs: Tensors, arguments: Arguments) -> Outputs:
    both = arguments.take(0.2, "clip", "eps", "epsilon", "cliprange", "clip_range", "clip_eps")
    low = arguments.take(both, "clip_low", "eps_low", "cliprange_low")
    high = arguments.take(both, "clip_high", "eps_high", "cliprange_high")
    dual, aggregate = arguments.take(None, "dual_clip"), arguments.take("token", "aggregate", "reduction")
    mask = inputs["mask"].bool()
    advantages = (
        inputs["advantages"]
        if inputs["advantages"].ndim == 2
        else inputs["advantages"][:, None].expand_as(inputs["logps"])
    )
    found = clipped_policy_loss(PolicyBatch(inputs["logps"], inputs["old_logps"], advantages, mask), low, high, dual)
    names = {"clipfrac": "clip_fraction", "approxkl_k1": "approx_kl", "approxkl": "approx_kl_k2", "ratio": "mean_ratio"}
    return {
        "loss": mean(found.loss, mask, aggregate),
        **{shown: mean(found.metrics[name], mask, "token") for name, shown in names.items()},
    }


def _ppo_value_loss(inputs: Tensors, arguments: Arguments) -> Outputs:
    clip = arguments.take(0.2, "clip", "eps", "cliprange_value", "clip_range", "eps_v")
    aggregate, mask = arguments.take("token", "aggregate", "reduction"), inputs["mask"].bool()
    if clip is None:
        clip = float("inf")
    found: TokenLoss = clipped_value_loss(inputs["values"], inputs["old_values"], inputs["returns"], mask, clip)
    return {"loss": mean(found.loss, mask, aggregate), "clip_fraction": mean(found.metrics["clipfrac"], mask, "token")}


def _ppo_total_loss(inputs: Tensors, arguments: Arguments) -> Outputs:
    terms = [
        arguments.take(0.0, *names)
        for names in (("policy_loss",), ("value_loss",), ("entropy",), ("ptx_loss", "nll", "ptx"))
    ]
    value = total_loss(
        *terms,
        vf_coef=arguments.take(0.1, "vf_coef", "value_coef", "c_v"),
        entropy_coefficient=arguments.take(0.0, "ent_coef", "entropy_coef", "c_e"),
        ptx_coefficient=arguments.take(0.0, "ptx_coef", "ptx_coefficient", "c_ptx"),
    )
    return {"value": value}


def _adaptive_kl_coef(inputs: Tensors, arguments: Arguments) -> Outputs:
    names = ("coef", "observed_kl", "target", "n_steps", "horizon")
    return {
        "value": adaptive_kl_coefficient(
            *(arguments.take(10000 if name == "horizon" else None, name) for name in names)
        )
    }


ONLINE: Mapping[str, Caller] = {
    "adaptive_kl_coef": _adaptive_kl_coef,
    "discounted_returns": lambda inputs, arguments: {
        "value": discounted_returns(inputs["rewards"], inputs["mask"], arguments.take(1.0, "gamma"))
    },
    "gae": _gae,
    "kl_estimators": _kl_estimators,
    "kl_penalised_rewards": _kl_penalised_rewards,
    "masked_whiten": _masked_whiten,
    "ppo_policy_loss": _ppo_policy_loss,
    "ppo_total_loss": _ppo_total_loss,
    "ppo_value_loss": _ppo_value_loss,
}
"""Name in a case -> function that calls ours."""
