"""The page of `alignflow compare`: one HTML file that loads nothing."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from alignflow.data.errors import UserError
from alignflow.data.number_text import number_text
from alignflow.data.report.body import shown
from alignflow.data.report.comparison import NOTHING, Curve, Measured, RunsBeside
from alignflow.data.report.line_plots import line_plot

MARK = '<meta name="generator" content="alignflow compare">'
"""Tells a page that an earlier comparison wrote, which may be replaced, from any other file."""


def render(found: RunsBeside) -> str:
    """The page; names and settings are escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, finalize=shown
    )
    steps = list(dict.fromkeys(curve.step for curve in found.curves))
    drawn = [(curve, plot(curve, found.runs, place)) for place, curve in enumerate(found.curves)]
    return environment.get_template("comparison.html.j2").render(
        mark=Markup(MARK),
        found=found,
        measured=measured_text,
        plots={
            step: [
                [(curve.metric, svg) for curve, svg in drawn if curve.step == step and curve.headline is first]
                for first in (True, False)
            ]
            for step in steps
        },
    )


def write_page(path: Path, found: RunsBeside) -> None:
    """Write the page; raises UserError where another file stands there, or nothing can be written."""
    try:
        if path.exists() and MARK not in path.read_text(encoding="utf-8", errors="replace"):
            raise UserError(
                "another file has this name", where=str(path), do="give another name with --output, or remove the file"
            )
        path.write_text(render(found), encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"the page cannot be written ({error.strerror or error})", where=str(path), do="give a file with --output"
        ) from None


def plot(curve: Curve, runs: tuple[str, ...], place: int) -> Markup:
    """The plot of one metric; runs that have the same artifact share a line that has all their names."""
    names = {line.runs: " = ".join(line.runs) for line in curve.lines}
    order = [next((name for of, name in names.items() if of[0] == run), run) for run in runs]
    svg = line_plot(
        f"{curve.step}: {curve.metric}",
        {names[line.runs]: line.training for line in curve.lines},
        {names[line.runs]: line.held_out for line in curve.lines},
        order,
        place,
    )
    return Markup(svg)


def measured_text(measured: Measured | None) -> str:
    """A value with its interval and the number that it is measured on, as far as they are known."""
    if measured is None or measured.value is None:
        return NOTHING
    ends = measured.low, measured.high
    interval = "" if None in ends else f" [{number_text(ends[0])}, {number_text(ends[1])}]"
    count = "" if measured.n is None else f" n={measured.n:,}"
    return f"{number_text(measured.value)}{interval}{count}"
