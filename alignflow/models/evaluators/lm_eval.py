"""Tasks of the lm-evaluation-harness on both models; the interface to the harness is in `harness`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from scipy.stats import norm

from alignflow.data.run import Run
from alignflow.models.evaluators.base import MODELS, Evaluation, EvaluationInputs

if TYPE_CHECKING:
    from alignflow.models.evaluators.harness import PolicyLM

STDERR = "_stderr"


def evaluate(inputs: EvaluationInputs) -> Evaluation:
    """Every metric of every task for both models, with intervals from the harness' standard errors, and the change.

    An interval is value ± z · standard error. The two models answer the same questions, and the interval of the change takes
    them as independent, so it is too wide. A group has the metrics that the harness gives
    for it; a tag, or a group without metrics, has those of each of its tasks.
    """
    from alignflow.models.evaluators.harness import PolicyLM, run_tasks  # needs the extra

    config = inputs.config.lm_eval
    assert config is not None
    found: dict[str, dict[str, Any]] = {}
    cut: dict[str, int] = {}
    for model in reversed(MODELS):  # the previous evaluator may have left the SFT model loaded
        asked = PolicyLM(inputs.policy(model), inputs.run, config.batch_size, inputs.config.seed)
        found[model] = run_tasks(config, asked, inputs.config.seed)
        cut[model] = asked.cut
        warn_of_limits(asked, model, inputs.run)
    tasks = {task: of_task(task, found, inputs.config.confidence) for task in found["aligned"]["results"]}
    metrics: dict[str, float | None] = {}
    for name in config.tasks:
        measured = of_name(name, tasks, found["aligned"].get("group_subtasks", {}))
        if not measured:
            inputs.run.warn(f"lm_eval: the harness measured nothing for {name}, so it has no metric")
        metrics |= measured
    return Evaluation(metrics, {"tasks": tasks, "cut": cut})


def warn_of_limits(asked: PolicyLM, model: str, run: Run) -> None:
    """Warn about requests that a model's context was too short for."""
    if asked.cut:
        run.warn(f"lm_eval: {asked.cut} requests to {model} were longer than its context and lost their beginning")
    if asked.lowered:
        run.warn(
            f"lm_eval: {asked.lowered} answers of {model} were limited to half of its context; their task allows more"
        )


def of_name(
    name: str, tasks: Mapping[str, Mapping[str, Any]], subtasks: Mapping[str, Sequence[str]]
) -> dict[str, float | None]:
    """The metrics of a name that the recipe asks for.

    Args:
        name: A task, group or tag.
        tasks: Results by task and group.
        subtasks: Group or tag -> its members.
    """
    own = bool(tasks.get(name, {}).get("metrics"))
    return {
        f"lm_eval/{task}/{metric}": value
        for task in ([name] if own else leaves(name, subtasks))
        if task in tasks
        for metric, value in flat(tasks[task]).items()
    }


def leaves(name: str, subtasks: Mapping[str, Sequence[str]]) -> list[str]:
    """The tasks of a group or tag with all its subgroups, each once; for a task, the task."""
    if name not in subtasks:
        return [name]
    return list(dict.fromkeys(leaf for child in subtasks[name] for leaf in leaves(child, subtasks)))


def of_task(task: str, found: Mapping[str, Mapping[str, Any]], confidence: float) -> dict[str, Any]:
    """Results of both models in one task.

    Args:
        task: Its name.
        found: Model -> the harness' results.
        confidence: Level of the intervals.
    """
    counts = found["aligned"].get("n-samples", {})
    parts = [leaf for leaf in leaves(task, found["aligned"].get("group_subtasks", {})) if leaf in counts]
    higher = found["aligned"].get("higher_is_better", {}).get(task, {})
    measured = {model: figures(found[model]["results"][task], confidence) for model in MODELS}
    return {
        "n": sum(counts[leaf]["effective"] for leaf in parts) if parts else None,
        "higher_is_better": {name: better for name, better in higher.items() if isinstance(better, bool)},
        "metrics": {
            name: {
                **{model: measured[model][name] for model in MODELS},
                "change": change(measured["aligned"][name], measured["sft"][name], confidence),
            }
            for name in measured["aligned"]
            if name in measured["sft"]
        },
    }


def figures(result: Mapping[str, Any], confidence: float) -> dict[str, dict[str, float | None]]:
    """Metric -> value, standard error and interval, from a line of the harness: `acc,none` is `acc`, `acc,FILTER` is `acc.FILTER`."""
    found = {}
    for key, value in result.items():
        name, comma, filtered = key.partition(",")
        if not comma or name.endswith(STDERR) or isinstance(value, bool) or not isinstance(value, int | float):
            continue
        error = result.get(f"{name}{STDERR},{filtered}")
        shown = name if filtered == "none" else f"{name}.{filtered}"
        found[shown] = interval(float(value), float(error) if isinstance(error, int | float) else None, confidence)
    return found


def interval(value: float, error: float | None, confidence: float) -> dict[str, float | None]:
    """A value with its normal interval; without an interval if the harness gives no error."""
    half = None if error is None else float(norm.ppf((1 + confidence) / 2)) * error
    return {
        "value": value,
        "stderr": error,
        "low": None if half is None else value - half,
        "high": None if half is None else value + half,
    }


def change(
    aligned: Mapping[str, float | None], sft: Mapping[str, float | None], confidence: float
) -> dict[str, float | None]:
    """The difference of two values, with independent errors."""
    errors = aligned["stderr"], sft["stderr"]
    error = None if None in errors else (float(errors[0] or 0.0) ** 2 + float(errors[1] or 0.0) ** 2) ** 0.5
    return interval(float(aligned["value"] or 0.0) - float(sft["value"] or 0.0), error, confidence)


def flat(task: Mapping[str, Any]) -> dict[str, float | None]:
    """The metrics of a task with their names in a manifest: `acc/aligned`, `acc/aligned/low`."""
    metrics: dict[str, float | None] = {}
    for name, sides in task["metrics"].items():
        for side, measured in sides.items():
            metrics[f"{name}/{side}"] = measured["value"]
            if measured["low"] is not None:
                metrics |= {f"{name}/{side}/{end}": measured[end] for end in ("low", "high")}
    return metrics
