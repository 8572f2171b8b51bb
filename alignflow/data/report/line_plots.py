"""Plots of several lines as SVG that is part of a page: text and axes have the colour of the page's text, in light and in dark."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from alignflow.data.report.plots import literal

TEXT = "#010203"
"""Stands for the colour of the page's text while matplotlib draws."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8b949e", "#8250df")
"""Colours that people with the common forms of colour blindness can tell apart, and that show on white and on black."""
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)))
"""After all colours the next lines have the same colours with the next pattern."""
LONGEST_NAME = 48
SETTINGS = {
    "svg.fonttype": "none",
    "font.size": 8.0,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor"), TEXT),
    **dict.fromkeys(("xtick.color", "ytick.color", "grid.color"), TEXT),
}

Points = Sequence[tuple[float, float]]


def line_plot(
    title: str, training: Mapping[str, Points], held_out: Mapping[str, Points], order: Sequence[str], number: int
) -> str:
    """One plot as an `svg` element: a line for each name, and its values on held-out rows as circles.

    Args:
        title: The heading.
        training: Name -> (step, value) in training.
        held_out: Name -> (step, value) on held-out rows.
        order: All names of the page: a name has the same colour in each of its plots.
        number: Which plot of the page it is; it keeps the ids inside of the plots apart.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**SETTINGS, "svg.hashsalt": str(number)}):
        figure = Figure(figsize=(4.6, 2.7))
        axis, drawn = figure.add_subplot(), set()
        for place, name in enumerate(order):
            colour, dash = COLOURS[place % len(COLOURS)], DASHES[place // len(COLOURS) % len(DASHES)]
            label = literal(name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…")
            if points := training.get(name):
                marker = "." if len(points) == 1 else ""
                axis.plot(*zip(*points, strict=True), color=colour, linestyle=dash, marker=marker, label=label)
                drawn.add(name)
            if points := held_out.get(name):
                ring: dict[str, Any] = {"marker": "o", "markersize": 3.5, "markerfacecolor": "none", "linewidth": 0.6}
                axis.plot(*zip(*points, strict=True), color=colour, label="" if name in drawn else label, **ring)
        axis.set(title=literal(title), xlabel="step")
        axis.grid(alpha=0.2)
        handles, labels = axis.get_legend_handles_labels()
        figure.legend(handles, labels, loc="upper left", bbox_to_anchor=(0.1, 0.0), frameon=False, fontsize=8)
        buffer = io.StringIO()
        figure.savefig(
            buffer, format="svg", bbox_inches="tight", transparent=True, metadata={"Date": None, "Creator": None}
        )
    return _inline(buffer.getvalue())


def _inline(svg: str) -> str:
    """The element alone, in the page's colour."""
    element = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    element = re.sub(r'<g id="[^"]*"', "<g", element)  # every plot has the same ids there, and nothing refers to them
    return element.replace(TEXT, "currentColor").replace("<svg ", '<svg role="img" ', 1)
