"""Plots as data URIs, for a page that needs nothing from outside."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from alignflow.data.printable import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANELS = 4  # in one row
ALIGNED, SFT, LINE, ALARM = "#1f6feb", "#8b949e", "#d29922", "#cf222e"
TRAINING: dict[str, Any] = {"color": ALIGNED, "linewidth": 1.4, "label": "training"}
HELD_OUT: dict[str, Any] = {"color": LINE, "linewidth": 1.2, "marker": "o", "markersize": 3, "label": "held out"}


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure  # half a second, which a run that draws nothing is spared

    return Figure(figsize=(width, height))


def _uri(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight", metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def curve_plot(
    stage: str,
    points: Sequence[Mapping[str, float]],
    names: Sequence[str],
    alarms: Mapping[int, str] | None = None,
    panels: int = PANELS,
) -> str:
    """One panel per metric over steps, `panels` in a row, in training and (`eval_`) on held-out rows, with a line at each alarm.

    A step is an update where a training samples. Metrics without points are left out.
    """
    shown = [name for name in names if any(name in point for point in points)] or ["loss"]
    columns = min(len(shown), panels)
    lines = -(-len(shown) // columns)
    figure = _figure(3.4 * columns, 2.6 * lines)
    for place, name in enumerate(shown, 1):
        axis = figure.add_subplot(lines, columns, place)
        for metric, style in ((name, TRAINING), (f"eval_{name}", HELD_OUT)):
            found = [(point["step"], point[metric]) for point in points if metric in point]
            if found:
                axis.plot([step for step, _ in found], [value for _, value in found], **style)
        if len(axis.lines) > 1:
            axis.legend(fontsize=7, frameon=False)
        for step, alarm in (alarms or {}).items():
            axis.axvline(step, color=ALARM, linestyle="--", linewidth=1)
            axis.annotate(
                alarm,
                (step, 1),
                xycoords=("data", "axes fraction"),
                rotation=90,
                va="top",
                ha="right",
                fontsize=6,
                color=ALARM,
            )
        axis.set(title=f"{stage}: {name}", xlabel="step")
        axis.grid(alpha=0.25)
    figure.tight_layout()
    return _uri(figure)


def literal(text: str) -> str:
    """A text that matplotlib draws as it is: between two dollars it would read mathematics, and fail on what is none."""
    return printable(text).replace("$", r"\$")


def interval_plot(
    title: str, rates: Mapping[str, tuple[Any, Any, Any]], label: str = "share of prompts won, ties half"
) -> str:
    """Rates with their intervals, and a line at one half."""
    known = {name: rate for name, rate in rates.items() if None not in rate}
    figure = _figure(6, 0.9 + 0.45 * max(len(known), 1))
    axis = figure.add_subplot()
    for place, (rate, low, high) in enumerate(known.values()):
        axis.errorbar(rate, place, xerr=[[rate - low], [high - rate]], fmt="o", color=ALIGNED, capsize=4)
    axis.axvline(0.5, color=SFT, linestyle="--", linewidth=1)
    axis.set(title=title, xlim=(0, 1), ylim=(len(known) - 0.4, -0.6), xlabel=label)
    axis.set_yticks(range(len(known)), [literal(name) for name in known])
    axis.grid(alpha=0.25, axis="x")
    return _uri(figure)


def bars_plot(title: str, values: Mapping[str, Any], label: str) -> str:
    """Horizontal bars of named figures."""
    numbers = {name: value for name, value in values.items() if isinstance(value, int | float)}
    figure = _figure(6, 0.8 + 0.35 * max(len(numbers), 1))
    axis = figure.add_subplot()
    axis.barh([literal(name) for name in numbers], list(numbers.values()), color=ALIGNED)
    axis.set(title=title, xlabel=label)
    axis.invert_yaxis()
    axis.grid(alpha=0.25, axis="x")
    return _uri(figure)


def histogram_plot(title: str, histogram: Mapping[str, Any], label: str = "P(chosen is better)") -> str:
    """A histogram that was counted before: `edges` and `counts`."""
    edges, counts = histogram.get("edges", []), histogram.get("counts", [])
    figure = _figure(6, 2.4)
    axis = figure.add_subplot()
    if len(edges) == len(counts) + 1 and counts:
        widths = [right - left for left, right in zip(edges[:-1], edges[1:], strict=True)]
        axis.bar(edges[:-1], counts, width=widths, align="edge", color=ALIGNED, edgecolor="white")
    axis.set(title=title, xlabel=label, ylabel="pairs")
    axis.grid(alpha=0.25, axis="y")
    return _uri(figure)


def calibration_plot(points: Sequence[Mapping[str, Any]]) -> str:
    """Accuracy against confidence, a point for each bin with its interval; on the diagonal a probability means what it says."""
    figure = _figure(4.2, 4)
    axis = figure.add_subplot()
    axis.plot([0.5, 1], [0.5, 1], color=SFT, linestyle="--", linewidth=1)
    for point in points:
        error = [[point["rate"] - point["low"]], [point["high"] - point["rate"]]]
        axis.errorbar(point["confidence"], point["rate"], yerr=error, fmt="o", color=ALIGNED, capsize=3)
        axis.annotate(
            str(point["trials"]),
            (point["confidence"], point["rate"]),
            fontsize=7,
            xytext=(4, 4),
            textcoords="offset points",
        )
    axis.set(
        title="Calibration (numbers: pairs)",
        xlabel="probability of the preferred answer",
        ylabel="share that people agree with",
    )
    axis.set(xlim=(0.48, 1.02), ylim=(0, 1.02))
    axis.grid(alpha=0.25)
    return _uri(figure)
