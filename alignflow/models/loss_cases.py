"""Fixed cases of inputs and wanted outputs, run through the functions that training calls, in fp64 with gradients.

A file of cases is JSON: `rtol`, `atol`, `grad_rtol`, `grad_atol`, and `cases`, each with `name`, `function`, `inputs`
(arrays), `kwargs`, `expected` (output -> value) and, where gradients are wanted, `grad_of` (an output) and `grads`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import logsigmoid

from alignflow.data.configs.online import OnlineOptions
from alignflow.data.configs.pairwise import DPOOptions
from alignflow.data.configs.training import RewardConfig
from alignflow.data.errors import DataError
from alignflow.models.advantages import discounted_returns, gae, whiten
from alignflow.models.judges.base import sigmoid
from alignflow.models.judges.llm import verdict_of_orders
from alignflow.models.losses.base import pairs_of_tokens
from alignflow.models.losses.dpo import dpo
from alignflow.models.losses.ppo import (
    KL_ESTIMATORS,
    PolicyBatch,
    TokenLoss,
    clipped_policy_loss,
    clipped_value_loss,
    masked_difference,
    token_weights,
    total_loss,
)  # fmt: skip
from alignflow.models.losses.reward import bradley_terry
from alignflow.models.rewards.shaping import ScoreScale, adaptive_kl_coefficient, kl_penalised_rewards, shaped_scores
from alignflow.models.token_statistics import TokenStatistics

Tensors = Mapping[str, torch.Tensor]
Outputs = dict[str, Any]


TOLERANCES = {"rtol": 1e-10, "atol": 1e-10, "grad_rtol": 1e-6, "grad_atol": 1e-8}
"""Of a file that states none."""


class NotHere(Exception):
    """A case asks for a function, an argument or an output that this code does not have."""


@dataclass(frozen=True)
class Verdict:
    """How a case came out: `pass`, `miss` or `not here`, and what there is to say about it."""

    name: str
    outcome: str
    text: str = ""


class _Arguments:
    """Keyword arguments of a case; one that nothing asked for makes the case `not here`."""

    def __init__(self, values: Mapping[str, Any]):
        self._values = dict(values)

    def take(self, default: Any, *names: str) -> Any:
        """The argument of any of these names."""
        found = [self._values.pop(name) for name in names if name in self._values]
        return found[0] if found else default

    def check(self) -> None:
        """Raise NotHere for what is left."""
        if self._values:
            raise NotHere(f"argument {', '.join(sorted(self._values))}")


def check_file(path: Path) -> Iterator[Verdict]:
    """The verdict of each case of a file; raises DataError where the file is not one of cases."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        tolerances = [float(content.get(name, default)) for name, default in TOLERANCES.items()]
        cases = [(case["name"], case["function"], case) for case in content["cases"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"not a file of loss cases ({type(error).__name__}: {error})", where=str(path), do="its form is in docs/methods/ppo.md"
        ) from None
    for name, function, case in cases:
        try:
            text = check_case(function, case, tolerances)
            yield Verdict(name, "miss" if text else "pass", text)
        except NotHere as reason:
            yield Verdict(name, "not here", str(reason))


def check_case(function: str, case: Mapping[str, Any], tolerances: list[float]) -> str:
    """What is wrong about a case; empty where nothing is. Raises NotHere for what this code does not have."""
    if function not in FUNCTIONS:
        raise NotHere(f"function {function}")
    wanted_gradients = case.get("grads") or {}
    inputs = {name: _tensor(value, name in wanted_gradients) for name, value in case["inputs"].items()}
    arguments = _Arguments(case.get("kwargs") or {})
    found = FUNCTIONS[function](inputs, arguments)
    arguments.check()
    missing = [name for name in case["expected"] if name not in found]
    if missing:
        raise NotHere(f"output {', '.join(missing)}")
    wrong = [_difference(name, found[name], wanted, *tolerances[:2]) for name, wanted in case["expected"].items()]
    if wanted_gradients:
        chosen = [inputs[name] for name in wanted_gradients]
        gradients = torch.autograd.grad(torch.as_tensor(found[case["grad_of"]]), chosen, allow_unused=True)
        for name, gradient, leaf in zip(wanted_gradients, gradients, chosen, strict=True):
            shown = torch.zeros_like(leaf) if gradient is None else gradient
            wrong.append(_difference(f"gradient of {name}", shown, wanted_gradients[name], *tolerances[2:]))
    return "; ".join(text for text in wrong if text)


def _tensor(value: Any, with_gradient: bool) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=with_gradient)


def _difference(name: str, found: Any, wanted: Any, rtol: float, atol: float) -> str:
    ours, theirs = (torch.as_tensor(value, dtype=torch.float64).detach() for value in (found, wanted))
    if ours.shape != theirs.shape:
        return f"{name} has shape {tuple(ours.shape)}, wanted {tuple(theirs.shape)}"
    if torch.allclose(ours, theirs, rtol=rtol, atol=atol, equal_nan=True):
        return ""
    error = (ours - theirs).abs().max()
    return f"{name} is off by {float(error):.3g}" if ours.numel() > 1 else f"{name} is {float(ours):.12g}, wanted {float(theirs):.12g}"


def _statistics(values: torch.Tensor, mask: torch.Tensor) -> TokenStatistics:
    """Figures per token as the policy gives them: those under the mask, row after row."""
    mask = mask.bool()
    return TokenStatistics(mask.nonzero()[:, 0], len(mask), {"logps": values[mask]})


def _counts(mask: torch.Tensor) -> torch.Tensor:
    return mask.sum(1).clamp(min=1)


def _mean(values: torch.Tensor, mask: torch.Tensor, aggregate: str) -> torch.Tensor:
    """The mean that the online trainer takes of losses or figures per token: over all tokens, or over rows of token means."""
    if aggregate not in ("token", "sequence"):
        raise NotHere(f"aggregate {aggregate}")
    owners = torch.arange(len(mask)).repeat_interleave(mask.shape[1])
    weights = token_weights(mask.bool().flatten(), owners, len(mask), aggregate, torch.float64).view_as(mask)
    denominator = weights.sum() if aggregate == "token" else torch.tensor(float(len(mask)), dtype=torch.float64)
    return (torch.where(mask.bool(), values, torch.zeros_like(values)) * weights).sum() / denominator.clamp(min=1)


def _sft_loss(inputs: Tensors, arguments: _Arguments) -> Outputs:
    statistics, reduction = _statistics(inputs["logps"], inputs["mask"]), arguments.take("token", "reduction", "aggregate")
    if reduction != "token":
        raise NotHere(f"reduction {reduction}")
    loss = -statistics.sums().sum() / statistics.counts().sum()
    return {"loss": loss, "perplexity": loss.exp()}


def _reward_bt_loss(inputs: Tensors, arguments: _Arguments) -> Outputs:
    chosen, rejected = inputs["chosen_rewards"], inputs["rejected_rewards"]
    nan = torch.full_like(chosen, float("nan"))
    margin = next((inputs[name] for name in ("margin", "margins") if name in inputs), arguments.take(None, "margin"))
    labels = next((inputs[name] for name in ("soft_labels", "soft_label") if name in inputs), None)
    config = RewardConfig(
        use_margin=margin is not None, use_soft_labels=True,
        l2_coefficient=arguments.take(0.0, "l2_coefficient", "regularization", "l2_coef", "lambda2"),
        center_rewards_coefficient=arguments.take(0.0, "center_rewards_coefficient", "center_coef", "center", "c"),
    )  # fmt: skip
    gap = nan if margin is None else torch.as_tensor(margin, dtype=torch.float64).expand_as(chosen)
    output = bradley_terry(chosen, rejected, gap, nan if labels is None else labels, config)
    return {
        "loss": output.loss.mean(), "accuracy": output.metrics["accuracy"].double().mean(), "margin": output.metrics["margin"].mean(),
        "mean_reward": (output.metrics["score/chosen"].mean() + output.metrics["score/rejected"].mean()) / 2,
    }  # fmt: skip


def _dpo_loss(inputs: Tensors, arguments: _Arguments) -> Outputs:
    policy, reference, masks = ((inputs[f"{a}chosen{b}"], inputs[f"{a}rejected{b}"]) for a, b in (("policy_", ""), ("ref_", ""), ("", "_mask")))
    batch = pairs_of_tokens(policy, masks, reference)
    options = DPOOptions(beta=arguments.take(0.1, "beta"), label_smoothing=arguments.take(0.0, "label_smoothing"))
    output = dpo(batch, options)
    return {
        "loss": output.loss.mean(), "per_example": output.loss, "chosen_rewards": output.metrics["rewards/chosen"],
        "rejected_rewards": output.metrics["rewards/rejected"], "accuracy": output.metrics["rewards/accuracies"].double().mean(),
        "margin": output.metrics["rewards/margins"].mean(),
    }  # fmt: skip


def _judge_soft_label(inputs: Tensors, arguments: _Arguments) -> Outputs:
    pairs = zip(inputs["order_ab_logps"].tolist(), inputs["order_ba_logps"].tolist(), strict=True)
    verdicts = [verdict_of_orders(given, swapped) for given, swapped in pairs]
    seats = [(verdict.orders[0] or 0.0, 1.0 - (verdict.orders[1] or 0.0)) for verdict in verdicts]  # P(first seat), both times
    return {
        "p1": [verdict.probability for verdict in verdicts],
        "position_bias": [(first + second - 1) / 2 for first, second in seats],
        "inconsistent": [float((first > 0.5) == (second > 0.5)) for first, second in seats],
    }


def _kl_estimators(inputs: Tensors, arguments: _Arguments) -> Outputs:
    mask = inputs["mask"].bool()
    logratio = masked_difference(inputs["logps"], inputs["ref_logps"], mask)
    found: Outputs = {name: torch.where(mask, function(logratio), 0.0) for name, function in KL_ESTIMATORS.items()}
    means = {f"{name}_mean": _mean(values, mask, "token") for name, values in found.items()}
    return {**found, **means, "seq_k1": _statistics(found["k1"], mask).sums()}


def _kl_penalised_rewards(inputs: Tensors, arguments: _Arguments) -> Outputs:
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
    )  # fmt: skip
    if estimator not in KL_ESTIMATORS:
        raise NotHere(f"estimator {estimator}")
    return {"value": kl_penalised_rewards(scores, inputs["logps"], inputs["ref_logps"], inputs["mask"], coefficient, estimator)}


def _gae(inputs: Tensors, arguments: _Arguments) -> Outputs:
    gamma, lam = arguments.take(1.0, "gamma"), arguments.take(0.95, "lam", "lambda_")
    advantages, returns = gae(inputs["rewards"], inputs["values"], inputs["mask"], gamma, lam)
    return {"advantages": advantages, "returns": returns}


def _masked_whiten(inputs: Tensors, arguments: _Arguments) -> Outputs:
    shift, unbiased = arguments.take(True, "shift_mean"), arguments.take(True, "unbiased")
    return {"value": whiten(inputs["values"], inputs["mask"], shift, unbiased)}


def _ppo_policy_loss(inputs: Tensors, arguments: _Arguments) -> Outputs:
    both = arguments.take(0.2, "clip", "eps", "epsilon", "cliprange", "clip_range", "clip_eps")
    low = arguments.take(both, "clip_low", "eps_low", "cliprange_low")
    high = arguments.take(both, "clip_high", "eps_high", "cliprange_high")
    dual, aggregate = arguments.take(None, "dual_clip"), arguments.take("token", "aggregate", "reduction")
    mask = inputs["mask"].bool()
    advantages = inputs["advantages"] if inputs["advantages"].ndim == 2 else inputs["advantages"][:, None].expand_as(inputs["logps"])
    found = clipped_policy_loss(PolicyBatch(inputs["logps"], inputs["old_logps"], advantages, mask), low, high, dual)
    names = {"clipfrac": "clip_fraction", "approxkl_k1": "approx_kl", "approxkl": "approx_kl_k2", "ratio": "mean_ratio"}
    return {
        "loss": _mean(found.loss, mask, aggregate),
        **{shown: _mean(found.metrics[name], mask, "token") for name, shown in names.items()},
    }


def _ppo_value_loss(inputs: Tensors, arguments: _Arguments) -> Outputs:
    clip = arguments.take(0.2, "clip", "eps", "cliprange_value", "clip_range", "eps_v")
    aggregate, mask = arguments.take("token", "aggregate", "reduction"), inputs["mask"].bool()
    if clip is None:
        clip = float("inf")
    found: TokenLoss = clipped_value_loss(inputs["values"], inputs["old_values"], inputs["returns"], mask, clip)
    return {"loss": _mean(found.loss, mask, aggregate), "clip_fraction": _mean(found.metrics["clipfrac"], mask, "token")}


def _ppo_total_loss(inputs: Tensors, arguments: _Arguments) -> Outputs:
    terms = [arguments.take(0.0, *names) for names in (("policy_loss",), ("value_loss",), ("entropy",), ("ptx_loss", "nll", "ptx"))]
    value = total_loss(
        *terms, vf_coef=arguments.take(0.1, "vf_coef", "value_coef", "c_v"),
        entropy_coefficient=arguments.take(0.0, "ent_coef", "entropy_coef", "c_e"),
        ptx_coefficient=arguments.take(0.0, "ptx_coef", "ptx_coefficient", "c_ptx"),
    )  # fmt: skip
    return {"value": value}


def _adaptive_kl_coef(inputs: Tensors, arguments: _Arguments) -> Outputs:
    names = ("coef", "observed_kl", "target", "n_steps", "horizon")
    return {"value": adaptive_kl_coefficient(*(arguments.take(10000 if name == "horizon" else None, name) for name in names))}


FUNCTIONS: Mapping[str, Callable[[Tensors, _Arguments], Outputs]] = {
    "adaptive_kl_coef": _adaptive_kl_coef,
    "discounted_returns": lambda inputs, arguments: {
        "value": discounted_returns(inputs["rewards"], inputs["mask"], arguments.take(1.0, "gamma"))
    },
    "dpo_loss": _dpo_loss,
    "gae": _gae,
    "judge_soft_label": _judge_soft_label,
    "kl_estimators": _kl_estimators,
    "kl_penalised_rewards": _kl_penalised_rewards,
    "log_sigmoid": lambda inputs, arguments: {"value": logsigmoid(inputs["x"])},
    "log_softmax": lambda inputs, arguments: {"value": torch.log_softmax(inputs["x"], dim=-1)},
    "masked_mean": lambda inputs, arguments: {"value": _mean(inputs["values"], inputs["mask"], "token")},
    "masked_whiten": _masked_whiten,
    "ppo_policy_loss": _ppo_policy_loss,
    "ppo_total_loss": _ppo_total_loss,
    "ppo_value_loss": _ppo_value_loss,
    "reward_bt_loss": _reward_bt_loss,
    "seq_logp": lambda inputs, arguments: {"value": _statistics(inputs["logps"], inputs["mask"]).sums()},
    "seq_mean_logp": lambda inputs, arguments: {"value": _statistics(inputs["logps"], inputs["mask"]).sums() / _counts(inputs["mask"])},
    "sft_loss": _sft_loss,
    "sigmoid": lambda inputs, arguments: {"value": [sigmoid(value) for value in inputs["x"].tolist()]},
}
"""Name that a case carries -> what calls our function with its inputs."""
