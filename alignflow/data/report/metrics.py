"""Which of a stage's metrics are shown where there is room for a few."""

from __future__ import annotations

from collections.abc import Mapping

from alignflow.data.artifacts import Manifest
from alignflow.data.catalogue import FAMILIES
from alignflow.data.dropped import kept_line
from alignflow.data.number_text import number_text
from alignflow.data.step_names import base_of

MOST_METRICS = 4
SHOWN_METRICS: dict[str, tuple[str, ...]] = {
    "init": ("parameters", "vocabulary"),
    "prepare": ("demonstrations/kept", "prompts/kept", "preferences/kept", "completions/kept", "evaluation/kept"),
    "sft": ("eval_loss", "eval_mean_token_accuracy", "loss"),
    "sample": ("completions", "stop_rate", "tokens/completion_mean"),
    "revise": ("answers", "revised", "unchanged", "pairs/train"),
    "judge_eval": ("accuracy", "kappa", "flip_rate", "ece", "spearman"),
    "label": ("pairs/train", "ties", "flip_rate", "flagged_rate", "longer_wins_rate"),
    "select": ("answers/train", "prompts/train", "ties", "score/mean"),
    "reward": ("eval_accuracy", "eval_pearson", "eval_loss", "disagreement"),
    "reference": ("rows", "logps"),
    "align": tuple(dict.fromkeys([*(metric for family in FAMILIES.values() for metric in family.headline), "loss"])),
    "merge": ("sign_conflicts", "sparsity"),
    "evaluate": ("win_rate", "verifiable", "lm_eval", "kl", "heldout_nll/change"),
}
"""Start of the names of the metrics that are shown for a stage; any others, where it has none of these."""


def key_metrics(name: str, manifest: Manifest) -> list[str]:
    """The metrics that matter most for a step, each with its value, and its interval where it has one."""
    found = {metric: value for metric, value in manifest.metrics.items() if value is not None}
    return [f"{metric} {_shown(found, metric)}" for metric in shown_names(name, found)[:MOST_METRICS]]


def shown_names(name: str, metrics: Mapping[str, float | None]) -> list[str]:
    """The names of the metrics of a step that are shown, the most telling ones first, without the ends of intervals."""
    ends = {metric for metric in metrics if metric.endswith(("/low", "/high")) and metric.rpartition("/")[0] in metrics}
    wanted = [
        metric
        for start in SHOWN_METRICS.get(base_of(name), ())
        for metric in metrics
        if metric == start or metric.startswith(f"{start}/")
    ]
    return [metric for metric in dict.fromkeys(wanted or metrics) if metric not in ends]


def interval_ends(metrics: Mapping[str, float | None], name: str) -> tuple[float | None, float | None]:
    """The ends of the interval of a metric; None where it has none."""
    return metrics.get(f"{name}/low"), metrics.get(f"{name}/high")


def with_intervals(metrics: Mapping[str, float | None]) -> dict[str, str]:
    """All metrics as text, each with its interval in place of a line for each end; a dash for one that was not measured."""
    found = {metric: value for metric, value in metrics.items() if value is not None}
    return {
        metric: _shown(found, metric) if metric in found else number_text(None)
        for metric in metrics
        if not (metric.endswith(("/low", "/high")) and metric.rpartition("/")[0] in metrics)
    }


def kept_lines(manifest: Manifest) -> list[str]:
    """What became of the rows of each table that `prepare` made, in a line each; none for other stages."""
    if manifest.stage != "prepare":
        return []
    kinds = [name.removesuffix("/kept") for name in manifest.metrics if name.endswith("/kept")]
    return [
        kept_line(kind, int(manifest.metrics[f"{kind}/kept"] or 0), _by_reason(kind, manifest.metrics))
        for kind in kinds
    ]


def _by_reason(kind: str, metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Reason -> rows dropped; all under one where an older alignflow did not keep the reasons."""
    start = f"{kind}/dropped/"
    found = {name.removeprefix(start): value for name, value in metrics.items() if name.startswith(start) and value}
    return found or {"dropped": metrics.get(f"{kind}/dropped") or 0.0}


def _shown(found: Mapping[str, float], metric: str) -> str:
    low, high = interval_ends(found, metric)
    interval = "" if low is None or high is None else f" ({number_text(low)} to {number_text(high)})"
    return f"{number_text(found[metric])}{interval}"
