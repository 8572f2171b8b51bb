"""Rewards of both models' answers, by the recipe's reward model."""

from __future__ import annotations

from alignflow.data.reward_ensembles import DISAGREEMENT
from alignflow.models.evaluators.base import MODELS, Evaluation, EvaluationInputs, mean_interval
from alignflow.models.reward_ensemble import disagreement_of, load_scorer


def evaluate(inputs: EvaluationInputs) -> Evaluation:
    """Mean reward of each model, and the mean difference on the same prompts with its interval.

    Of an ensemble also the mean disagreement of its members about each model's answers: one that is larger for the aligned model says
    that it writes answers which the members were not trained to score.
    """
    assert inputs.reward_model is not None
    reward = load_scorer(inputs.reward_model, inputs.run.runtime)
    scores, spreads = {}, {}
    for model in MODELS:
        rows = [
            (row["prompt"], answer.text, answer.ended)
            for row, answer in zip(inputs.prompts, inputs.answers[model], strict=True)
        ]
        scores[model] = reward.score(rows)
        if (spread := disagreement_of(reward, rows)) is not None:
            spreads[model] = sum(spread) / len(spread)
    differences = [first - second for first, second in zip(scores["aligned"], scores["sft"], strict=True)]
    found = mean_interval(differences, inputs.config.confidence)
    means = {model: sum(values) / len(values) for model, values in scores.items()}
    metrics: dict[str, float | None] = {
        **{f"reward/{model}": mean for model, mean in means.items()},
        "reward/difference": found["mean"],
        **{f"reward/{DISAGREEMENT}/{model}": spread for model, spread in spreads.items()},
    }
    details = {"mean": means, "difference": found, **({DISAGREEMENT: spreads} if spreads else {})}
    return Evaluation(metrics, details, rewards=scores)
