"""Which of a stage's metrics are shown where there is room for a few."""

from __future__ import annotations

from alignflow.data.artifacts import Manifest

MOST_METRICS = 4
SHOWN_METRICS: dict[str, tuple[str, ...]] = {
    "init": ("parameters", "vocabulary"),
    "prepare": ("demonstrations/kept", "prompts/kept", "preferences/kept", "completions/kept", "evaluation/kept"),
    "sft": ("eval_loss", "eval_mean_token_accuracy", "loss"),
    "sample": ("completions", "stop_rate", "tokens/completion_mean"),
    "label": ("pairs", "ties", "flip_rate", "longer_wins"),
    "reward": ("eval_accuracy", "eval_loss"),
    "reference": ("pairs", "logps"),
    "align": (
        "rewards/accuracies",
        "rewards/margins",
        "objective/rlhf_reward",
        "objective/kl",
        "completions/mean_length",
        "alarms",
        "loss",
    ),
    "evaluate": ("win_rate", "kl", "heldout_nll/change"),
}
"""Start of the names of the metrics that are shown for a stage; any others, where it has none of these."""


def key_metrics(name: str, manifest: Manifest) -> list[str]:
    """The metrics that matter most for a step, each with its value."""
    found = {metric: value for metric, value in manifest.metrics.items() if value is not None}
    wanted = [metric for start in SHOWN_METRICS.get(name, ()) for metric in found if metric == start or metric.startswith(f"{start}/")]
    chosen = wanted or list(found)
    return [f"{metric} {found[metric]:.4g}" for metric in dict.fromkeys(chosen[: 2 * MOST_METRICS])]
