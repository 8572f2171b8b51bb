"""What came of a run in a sentence, and what it was run with: the top of the report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignflow.data.report.figures import method_of
from alignflow.data.report.settings import changed_settings
from alignflow.data.step_names import RESULTS

if TYPE_CHECKING:
    from alignflow.data.report.body import FinishedStep

TRAINED = ("sft", "reward", "align", "merge")
NO_DIFFERENCE = "No judge shows a difference between the two models: every interval includes 50%."


def headline(last: Mapping[str, FinishedStep], evaluation: Mapping[str, Any] | None) -> list[str]:
    """Sentences on what came out, those about the last model that was trained; none for a run that trained nothing.

    Args:
        last: Step without its round -> the last round of it.
        evaluation: What `evaluate` measured; None where it did not run.
    """
    if evaluation and evaluation.get("win_rate"):
        align = last["align"].manifest if "align" in last else None
        method = (method_of(align) if align else "") or "aligned"
        return _won(method, evaluation["win_rate"], last["evaluate"].metrics.get("kl"))
    found = []
    if "reward" in last and (accuracy := last["reward"].metrics.get("eval_accuracy")) is not None:
        found.append(f"The reward model is right on {accuracy:.0%} of held-out comparisons or labels.")
    if "align" not in last and "sft" in last and (loss := last["sft"].metrics.get("eval_loss")) is not None:
        found.append(f"The loss of the fine-tuned model on held-out rows is {loss:.3g} nats per token.")
    return found


def _won(method: str, judges: Mapping[str, Mapping[str, Any]], kl: float | None) -> list[str]:
    rated = {name: judge for name, judge in judges.items() if judge["win_rate"] is not None}
    if not rated:
        return ["No judge gave a label, so there is no win rate."]
    parts = []
    for name, judge in rated.items():
        prompts = judge["wins"] + judge["ties"] + judge["losses"]
        made = "made the labels" if judge["made_the_labels"] else "did not make the labels"
        unlabelled = f" ({judge['no_label']:,} more have no label)" if judge["no_label"] else ""
        parts.append(
            f"{judge['win_rate']:.0%} [{judge['low']:.0%}, {judge['high']:.0%}] of {prompts:,} prompts{unlabelled} by {name}, which {made}"
        )
    distance = "" if kl is None else f"; KL {kl:.3g} nats per answer"
    sentences = [f"Against SFT the {method} model wins {', and '.join(parts)}{distance}. Ties count one half."]
    unsure = all(judge["low"] <= 0.5 <= judge["high"] for judge in rated.values())
    return [*sentences, NO_DIFFERENCE] if unsure else sentences


def ran_with(last: Mapping[str, FinishedStep]) -> dict[str, str]:
    """What a person asks first: model, data, seed, and the settings of each training that are not the defaults."""
    found = {}
    if "init" in last and (made := last["init"].manifest):
        found["base model"] = str(made.config.get("path") or "built by the recipe")
        if parameters := made.metrics.get("parameters"):
            found["parameters"] = f"{parameters:,.0f}"
    if "prepare" in last:
        tables = (last["prepare"].statistics or {}).get("tables", {})
        found["rows kept"] = ", ".join(f"{name} {table['kept']:,}" for name, table in tables.items())
    for name in TRAINED:
        if name in last and (manifest := last[name].manifest):
            changed = changed_settings(manifest)
            found[name] = ", ".join(f"{place} {_text(value)}" for place, value in changed.items()) or "the defaults"
    return {name: text for name, text in found.items() if text}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def model_path(last: Mapping[str, FinishedStep]) -> Path | None:
    """Where the best model of the run is: merged, aligned, a reward model, or fine-tuned; None for a run that trained nothing."""
    return next((last[name].path for name in RESULTS if name in last), None)


def warnings_of(steps: Sequence[FinishedStep]) -> list[str]:
    """All warnings of the run, with the step that gave each."""
    return [f"{step.name}: {warning}" for step in steps if step.manifest for warning in step.manifest.warnings]
