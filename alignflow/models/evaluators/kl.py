"""KL divergence of the aligned model from SFT, estimated on the aligned model's own answers."""

from __future__ import annotations

import torch

from alignflow.models.evaluators.base import MODELS, Evaluation, EvaluationInputs, mean_interval
from alignflow.models.policy import completion_logps


def evaluate(inputs: EvaluationInputs) -> Evaluation:
    """k1 = log p - log q and k3 = q/p - 1 + log p/q (Schulman 2020, "Approximating KL Divergence"), p aligned, q SFT.

    `kl` is the mean per answer of k1 summed over tokens, in nats. The answers are drawn at the evaluation's
    temperature; at another one than 1 they are not samples of p, and the figure is only an indication.
    """
    rows = [row for _, row in inputs.encoded("aligned")]
    if not rows:
        return Evaluation({"kl": None, "kl/token": None, "kl/token_k3": None}, {"answers": 0})
    logps = {
        model: completion_logps(inputs.policy(model), rows, inputs.run.runtime.micro_batch_tokens) for model in MODELS
    }
    ratios = [aligned - sft for aligned, sft in zip(logps["aligned"], logps["sft"], strict=True)]
    whole = mean_interval([float(ratio.sum()) for ratio in ratios], inputs.config.confidence)
    tokens = torch.cat(ratios)
    k3 = (torch.exp(-tokens) - 1 + tokens).mean()
    metrics = {"kl": whole["mean"], "kl/token": float(tokens.mean()), "kl/token_k3": float(k3)}
    return Evaluation(
        metrics,
        {
            "answers": len(rows),
            "tokens": len(tokens),
            "per_answer": whole,
            **metrics,
            "temperature": inputs.config.temperature,
        },
    )
