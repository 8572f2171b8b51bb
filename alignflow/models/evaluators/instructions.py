"""Verifiable instructions kept by both models: strict and loose, per prompt and per instruction, as IFEval counts."""

from __future__ import annotations

import json
from typing import Any

from alignflow.data.intervals import wilson
from alignflow.models.evaluators.base import MODELS, Answer, Evaluation, EvaluationInputs
from alignflow.models.evaluators.checks import kept, loose_forms


def evaluate(inputs: EvaluationInputs) -> Evaluation:
    """Accuracies of both models over the prompts that have instructions."""
    rows = [
        (index, json.loads(row["instructions"])) for index, row in enumerate(inputs.prompts) if row.get("instructions")
    ]
    details = {
        model: count(
            [(inputs.answers[model][index], instructions) for index, instructions in rows], inputs.config.confidence
        )
        for model in MODELS
    }
    names = ("prompt_strict", "instruction_loose")
    metrics = {f"instructions/{name}/{model}": details[model][name]["rate"] for name in names for model in MODELS}
    return Evaluation(metrics, details)


def count(rows: list[tuple[Answer, list[dict[str, Any]]]], confidence: float) -> dict[str, Any]:
    """Rates with intervals; a prompt with an unknown instruction is counted and dropped."""
    unknown = 0
    verdicts: dict[str, list[bool]] = {
        "prompt_strict": [],
        "prompt_loose": [],
        "instruction_strict": [],
        "instruction_loose": [],
    }
    for answer, instructions in rows:
        strict = [kept(answer.text, instruction) for instruction in instructions]
        if None in strict or not strict:
            unknown += strict.count(None)
            continue
        loose = [any(kept(form, instruction) for form in loose_forms(answer.text)) for instruction in instructions]
        verdicts["prompt_strict"].append(all(strict))
        verdicts["prompt_loose"].append(all(loose))
        verdicts["instruction_strict"] += [bool(verdict) for verdict in strict]
        verdicts["instruction_loose"] += loose
    return {"unknown": unknown, **{name: _rate(values, confidence) for name, values in verdicts.items()}}


def _rate(values: list[bool], confidence: float) -> dict[str, Any]:
    low, high = wilson(sum(values), len(values), confidence)
    return {"rate": sum(values) / len(values) if values else None, "low": low, "high": high, "count": len(values)}
