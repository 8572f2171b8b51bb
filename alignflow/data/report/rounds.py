"""What became of a method that runs in rounds: a row for each, with the figures that say where it is going."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Metrics = Mapping[str, float | None]
SHOWN: Mapping[str, tuple[str, ...]] = {
    "sample": ("tokens/completion_mean", "stop_rate", "duplicates"),
    "label": ("pairs/train", "win_rates/train", "ties", "abstentions"),
    "select": ("answers/train", "score/mean"),
    "align": ("loss", "nll_loss", "rewards/accuracies", "rewards/margins"),
    "evaluate": ("win_rate", "kl", "kl/token", "reward_score"),
}
"""Step of a round -> its metrics that are shown; each stands for those under it, too, but for the ends of intervals of others."""


def rounds_table(steps: Iterable[tuple[str, int, Metrics]]) -> list[dict[str, Any]]:
    """A row for each round, `round` first, then `STEP METRIC` -> value, from (step without its round, round, metrics) of a run; steps
    without a round are in none. The columns of all rows are the same: None where a round has no such figure."""
    rows: dict[int, dict[str, Any]] = {}
    for base, number, metrics in steps:
        if number:
            rows.setdefault(number, {"round": number}).update(
                {f"{base} {name}": value for name, value in metrics.items() if _is_shown(base, name)}
            )
    columns = list(dict.fromkeys(name for number in sorted(rows) for name in rows[number]))
    return [{name: rows[number].get(name) for name in columns} for number in sorted(rows)]


def _is_shown(base: str, metric: str) -> bool:
    return any(metric == start or metric.startswith(f"{start}/") for start in SHOWN.get(base, ()))
