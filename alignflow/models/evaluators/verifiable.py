"""Accuracy of both models by programmatic checks of greedy answers: before and after alignment."""

from __future__ import annotations

from collections import Counter
from typing import Any

from alignflow.data.configs.verifiers import PerRowRewardOptions
from alignflow.data.intervals import wilson
from alignflow.models.evaluators.base import MODELS, Answer, Evaluation, EvaluationInputs
from alignflow.models.evaluators.evaluate import sampling
from alignflow.models.generation.sample import sample_rows
from alignflow.models.rewards.episodes import Episode
from alignflow.models.rewards.verifiers.base import Outcome, checker_of

MOST_REASONS = 5


def evaluate(inputs: EvaluationInputs) -> Evaluation:
    """Mean scores with Wilson's intervals, and their difference with Newcombe's.

    The answers are greedy for any `evaluate.temperature`. A prompt whose answers cannot be checked is dropped and counted in a warning;
    an unreadable answer scores 0 and is counted, too.
    """
    checker = checker_of(inputs.config.verifiable or PerRowRewardOptions(), "evaluate.verifiable")
    outcomes: dict[str, list[Outcome]] = {}
    for model in MODELS:
        answers = greedy_answers(inputs, model)
        outcomes[model] = [
            checker.check(Episode(row, answer.text, answer.ended, answer.tokens))
            for row, answer in zip(inputs.prompts, answers, strict=True)
        ]
    checked = [
        index
        for index in range(len(inputs.prompts))
        if all(outcomes[model][index].score is not None for model in MODELS)
    ]
    reasons = Counter(outcome.reason for model in MODELS for outcome in outcomes[model] if outcome.score is None)
    if unchecked := len(inputs.prompts) - len(checked):
        inputs.run.warn(
            f"verifiable: {unchecked} of {len(inputs.prompts)} prompts cannot be checked and are dropped: "
            + "; ".join(reason for reason, _ in reasons.most_common(MOST_REASONS))
        )
    confidence = inputs.config.confidence
    details: dict[str, Any] = {
        "checked": len(checked),
        "unchecked": unchecked,
        "reasons": dict(reasons.most_common(MOST_REASONS)),
        **{model: accuracy([outcomes[model][index] for index in checked], confidence) for model in MODELS},
    }
    aligned, sft = ([float(outcomes[model][index].score or 0.0) for index in checked] for model in MODELS)
    changes = [after - before for after, before in zip(aligned, sft, strict=True)]
    details["change"] = {
        **difference(details["aligned"], details["sft"]),
        "better": sum(change > 0 for change in changes),
        "worse": sum(change < 0 for change in changes),
    }
    return Evaluation(_metrics(details), details)


def greedy_answers(inputs: EvaluationInputs, model: str) -> list[Answer]:
    """Greedy answers of a model; those of the stage, if its temperature is 0."""
    if not inputs.config.temperature:
        return inputs.answers[model]
    made = sample_rows(sampling(inputs.config, temperature=0.0), inputs.paths[model], inputs.prompts, inputs.run)
    return [Answer(row["completions"][0], row["ended"][0], row["tokens"][0]) for row in made]


def accuracy(outcomes: list[Outcome], confidence: float) -> dict[str, Any]:
    """Mean score of answers that were checked, with its interval; None if there are none."""
    total = sum(outcome.score or 0.0 for outcome in outcomes)
    low, high = wilson(total, len(outcomes), confidence)
    return {
        "accuracy": total / len(outcomes) if outcomes else None,
        "low": low,
        "high": high,
        "confidence": confidence,
        "right": sum(outcome.score == 1 for outcome in outcomes),
        "unparsed": sum(not outcome.parsed for outcome in outcomes),
    }


def difference(after: dict[str, Any], before: dict[str, Any]) -> dict[str, float | None]:
    """The difference of two accuracies with the interval by Newcombe (1998, method 10) from two Wilson intervals.

    It takes the two as independent: on the same prompts they rise and fall together, so the interval is wider than it need be. It does not
    shrink to a point where no answer changed.
    """
    if after["accuracy"] is None or before["accuracy"] is None:
        return {"mean": None, "low": None, "high": None}
    mean = after["accuracy"] - before["accuracy"]
    down = ((after["accuracy"] - after["low"]) ** 2 + (before["high"] - before["accuracy"]) ** 2) ** 0.5
    up = ((after["high"] - after["accuracy"]) ** 2 + (before["accuracy"] - before["low"]) ** 2) ** 0.5
    return {"mean": mean, "low": mean - down, "high": mean + up}


def _metrics(details: dict[str, Any]) -> dict[str, float | None]:
    metrics: dict[str, float | None] = {}
    for model in MODELS:
        found = details[model]
        metrics[f"verifiable/{model}"] = found["accuracy"]
        metrics |= {f"verifiable/{model}/{end}": found[end] for end in ("low", "high")}
    metrics["verifiable/change"] = details["change"]["mean"]
    metrics |= {f"verifiable/change/{end}": details["change"][end] for end in ("low", "high")}
    metrics |= {f"verifiable/unparsed/{model}": float(details[model]["unparsed"]) for model in MODELS}
    return metrics | {"verifiable/unchecked": float(details["unchecked"])}
