"""Wins of the aligned model against SFT, by every judge, in both orders, ties half."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from alignflow.data.configs.generation import JudgeConfig
from alignflow.data.intervals import wilson
from alignflow.data.judging.biases import option_mass, unanswered
from alignflow.data.own_module import short
from alignflow.models.evaluators.base import MODELS, Evaluation, EvaluationInputs
from alignflow.models.judges.base import IDENTICAL, Candidate, Judge, Verdict, flags_of, make_judge


def evaluate(inputs: EvaluationInputs) -> Evaluation:
    """Win rate with its interval for each judge; a pair without a label is counted separately."""
    metrics: dict[str, float | None] = {}
    details: dict[str, Any] = {}
    by_judge: dict[str, list[Verdict]] = {}
    for number, config in enumerate(inputs.judges):
        name = judge_name(config)
        if name in details:
            name = f"{name}#{number}"
        with closing(
            make_judge(config, policy=inputs.paths["sft"], reward_model=inputs.reward_model, run=inputs.run)
        ) as judge:
            asked = pairs(inputs)
            verdicts = judge.compare(asked)
            found = summary(verdicts, inputs.config.confidence) | {"flagged": flagged(judge, asked)}
        if any((found["flagged"] or {}).values()):
            inputs.run.warn(
                f"answers with marks that may steer the judge {name}: {found['flagged']} of {len(asked)} each"
            )
        if words := unanswered(found.get("option_mass")):
            inputs.run.warn(f"{name}: {words}")
        found["made_the_labels"] = config is inputs.config.labelling_judge
        details[name], by_judge[name] = found, verdicts
        metrics[f"win_rate/{name}"] = found["win_rate"]
        metrics[f"win_rate/{name}/low"], metrics[f"win_rate/{name}/high"] = found["low"], found["high"]
        if "option_mass" in found:
            metrics[f"judge/option_mass/{name}"] = found["option_mass"]["mean"]
    return Evaluation(metrics, details, verdicts=by_judge)


def judge_name(config: JudgeConfig) -> str:
    """A short name: two rubrics differ by their constitution."""
    shown = config.options.get("constitution", "helpful" if config.name == "rubric" else config.options.get("model"))
    name = short(config.name)
    return f"{name}:{Path(str(shown)).stem}" if shown else name


def pairs(inputs: EvaluationInputs) -> list[tuple[Candidate, Candidate]]:
    """(aligned, sft) for each prompt."""
    return [
        tuple(Candidate(row["prompt"], answer.text, answer.ended) for answer in answers)  # type: ignore[misc]
        for row, *answers in zip(inputs.prompts, inputs.answers["aligned"], inputs.answers["sft"], strict=True)
    ]


def flagged(judge: Judge, asked: list[tuple[Candidate, Candidate]]) -> dict[str, int] | None:
    """How many answers of each model have marks that address the judge; None for a judge that does not read text."""
    counts = {}
    for seat, model in enumerate(MODELS):
        flags = flags_of(judge, [pair[seat] for pair in asked])
        if flags is None:
            return None
        counts[model] = sum(map(bool, flags))
    return counts


def outcome(verdict: Verdict) -> float | None:
    """1 for a win of the first answer, 0 for a loss, one half for a tie or two equal answers, None for no label.

    A preference that changes with the order is a tie.
    """
    if verdict.reason == IDENTICAL:
        return 0.5
    if verdict.probability is None:
        return None
    return float(verdict.probability > 0.5) if verdict.decided else 0.5


def summary(verdicts: list[Verdict], confidence: float) -> dict[str, Any]:
    """Win rate, interval and counts of some verdicts."""
    values = [value for value in map(outcome, verdicts) if value is not None]
    low, high = wilson(sum(values), len(values), confidence)
    asked = [verdict for verdict in verdicts if None not in verdict.orders]
    flips = sum(verdict.flips for verdict in asked)
    mass = option_mass([mass for verdict in verdicts for mass in verdict.masses])
    return {
        "win_rate": sum(values) / len(values) if values else None,
        "low": low,
        "high": high,
        "confidence": confidence,
        "wins": values.count(1.0),
        "ties": values.count(0.5),
        "losses": values.count(0.0),
        "no_label": len(verdicts) - len(values),
        "flip_rate": flips / len(asked) if asked else None,
        **({"option_mass": mass} if mass else {}),
        "first_order": _mean([verdict.orders[0] for verdict in asked]),
        "swapped_order": _mean([verdict.orders[1] for verdict in asked]),
        "mean_scores": {
            model: _mean([verdict.scores[seat] for verdict in verdicts if None not in verdict.scores])
            for seat, model in enumerate(("aligned", "sft"))
        },
    }


def _mean(values: list[Any]) -> float | None:
    return sum(values) / len(values) if values else None
