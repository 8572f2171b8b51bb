"""Cases of sums and means over tokens, of SFT, of reward models and of judges."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.nn.functional import logsigmoid, softplus

from alignflow.data.configs.training import RewardConfig
from alignflow.models.cases.base import Arguments, Caller, NotHere, Outputs, Tensors, counts, mean, token_statistics
from alignflow.models.judges.base import sigmoid
from alignflow.models.judges.llm import verdict_of_orders
from alignflow.models.losses.reference_free import log1mexp
from alignflow.models.losses.reward import bradley_terry


def _sft_loss(inputs: Tensors, arguments: Arguments) -> Outputs:
    statistics, reduction = (
        token_statistics(inputs["logps"], inputs["mask"]),
        arguments.take("token", "reduction", "aggregate"),
    )
    if reduction != "token":
        raise NotHere(f"reduction {reduction}")
    loss = -statistics.sums().sum() / statistics.counts().sum()
    return {"loss": loss, "perplexity": loss.exp()}


def _reward_bt_loss(inputs: Tensors, arguments: Arguments) -> Outputs:
    chosen, rejected = inputs["chosen_rewards"], inputs["rejected_rewards"]
    nan = torch.full_like(chosen, float("nan"))
    margin = next((inputs[name] for name in ("margin", "margins") if name in inputs), arguments.take(None, "margin"))
    labels = next((inputs[name] for name in ("soft_labels", "soft_label") if name in inputs), None)
    config = RewardConfig(
        use_margin=margin is not None,
        use_soft_labels=True,
        l2_coefficient=arguments.take(0.0, "l2_coefficient", "regularization", "l2_coef", "lambda2"),
        center_rewards_coefficient=arguments.take(0.0, "center_rewards_coefficient", "center_coef", "center", "c"),
    )
    gap = nan if margin is None else torch.as_tensor(margin, dtype=torch.float64).expand_as(chosen)
    output = bradley_terry(chosen, rejected, gap, nan if labels is None else labels, config)
    return {
        "loss": output.loss.mean(),
        "accuracy": output.metrics["accuracy"].double().mean(),
        "margin": output.metrics["margin"].mean(),
        "mean_reward": (output.metrics["score/chosen"].mean() + output.metrics["score/rejected"].mean()) / 2,
    }


def _judge_soft_label(inputs: Tensors, arguments: Arguments) -> Outputs:
    pairs = zip(inputs["order_ab_logps"].tolist(), inputs["order_ba_logps"].tolist(), strict=True)
    verdicts = [verdict_of_orders(given, swapped) for given, swapped in pairs]
    seats = [
        (verdict.orders[0] or 0.0, 1.0 - (verdict.orders[1] or 0.0)) for verdict in verdicts
    ]  # P(first position), both times
    return {
        "p1": [verdict.probability for verdict in verdicts],
        "position_bias": [(first + second - 1) / 2 for first, second in seats],
        "inconsistent": [float((first > 0.5) == (second > 0.5)) for first, second in seats],
    }


OTHERS: Mapping[str, Caller] = {
    "judge_soft_label": _judge_soft_label,
    "log1mexp": lambda inputs, arguments: {"value": log1mexp(inputs["x"])},
    "log_sigmoid": lambda inputs, arguments: {"value": logsigmoid(inputs["x"])},
    "log_softmax": lambda inputs, arguments: {"value": torch.log_softmax(inputs["x"], dim=-1)},
    "masked_mean": lambda inputs, arguments: {"value": mean(inputs["values"], inputs["mask"], "token")},
    "reward_bt_loss": _reward_bt_loss,
    "seq_logp": lambda inputs, arguments: {"value": token_statistics(inputs["logps"], inputs["mask"]).sums()},
    "seq_mean_logp": lambda inputs, arguments: {
        "value": token_statistics(inputs["logps"], inputs["mask"]).sums() / counts(inputs["mask"])
    },
    "sft_loss": _sft_loss,
    "sigmoid": lambda inputs, arguments: {"value": [sigmoid(value) for value in inputs["x"].tolist()]},
    "softplus": lambda inputs, arguments: {"value": softplus(inputs["x"])},
}
"""Name in a case -> function that calls ours."""
