"""Rewards of both models' answers, by the recipe's reward model."""

from __future__ import annotations

from alignflow.models.evaluators.base import MODELS, Evaluation, EvaluationInputs, mean_interval
from alignflow.models.reward_model import load_reward_model


def evaluate(inputs: EvaluationInputs) -> Evaluation:
    """Mean reward of each model, and the mean difference on the same prompts with its interval."""
    assert inputs.reward_model is not None
    reward = load_reward_model(inputs.reward_model, inputs.run.runtime)
    scores = {
        model: reward.score(
            [
                (row["prompt"], answer.text, answer.ended)
                for row, answer in zip(inputs.prompts, inputs.answers[model], strict=True)
            ]
        )
        for model in MODELS
    }
    differences = [first - second for first, second in zip(scores["aligned"], scores["sft"], strict=True)]
    found = mean_interval(differences, inputs.config.confidence)
    means = {model: sum(values) / len(values) for model, values in scores.items()}
    metrics: dict[str, float | None] = {
        **{f"reward/{model}": mean for model, mean in means.items()},
        "reward/difference": found["mean"],
    }
    return Evaluation(metrics, {"mean": means, "difference": found})
