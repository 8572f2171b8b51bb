"""The dashboard of a store: one self-contained page with all runs, a leaderboard, and the newest report's headline. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from alignflow.data.report.body import shown


def dashboard_page(
    store: str, written: str, runs: Sequence[Mapping[str, Any]], newest: Mapping[str, Any] | None, cached: int
) -> str:
    """The page as HTML: what people, recipes and models wrote is escaped, and nothing is loaded from anywhere.

    Args:
        store: Path of the store.
        written: When the page was written, as people read it.
        runs: The runs, newest first. Texts are `recipe` (its name), `name` (the same, with how many cached runs stand behind it), `date`,
            `state`, `method`, `settings`, `win_rate`, `kl`, `reward_accuracy`, `seconds`, `size`, `error`, `judge`, `report` (an address, or
            empty) and `evaluated` (the key of its evaluation); `smoke` is true or false; `rate`, `low` and `high` are numbers or None.
        newest: The newest run with a report: `recipe`, `date`, `report`, its `headline` as sentences, `problem` where they cannot be read.
        cached: How many runs stand behind the others.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, finalize=shown
    )
    return environment.get_template("dashboard.html.j2").render(
        store=store, written=written, runs=runs, newest=newest, cached=cached, boards=leaderboards(runs)
    )


def leaderboards(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each judge the runs that it judged, the highest win rate first; of runs with one evaluation the newest stands for all."""
    boards: dict[str, list[dict[str, Any]]] = {}
    seen: set[str] = set()
    for run in runs:
        if run["rate"] is None or run["smoke"] or run["evaluated"] in seen:
            continue
        seen.add(run["evaluated"])
        boards.setdefault(run["judge"], []).append({**run, "bar": bar(run["rate"], run["low"], run["high"])})
    return [
        {"judge": judge, "runs": sorted(found, key=lambda run: run["rate"], reverse=True)}
        for judge, found in boards.items()
    ]


def bar(rate: float, low: float | None, high: float | None) -> dict[str, float | None]:
    """Where the marks of a win rate stand, in percent of the bar's width; without an interval its width is None."""
    left, right = (None if end is None else round(100 * min(max(end, 0.0), 1.0), 1) for end in (low, high))
    width = None if left is None or right is None else round(right - left, 1)
    return {"rate": round(100 * min(max(rate, 0.0), 1.0), 1), "left": left, "width": width}
