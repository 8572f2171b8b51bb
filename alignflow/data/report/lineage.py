"""The picture of a run's lineage: a row for each artifact, with lines in SVG from what it took.

Each artifact has a line of its own that goes down from its row to the last row that takes it. The rows are text, which wraps, so that the picture
of three rounds can be read on a telephone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from alignflow.data.report.line_plots import COLOURS
from alignflow.data.report.metrics import key_metrics

if TYPE_CHECKING:
    from alignflow.data.artifacts import Manifest
    from alignflow.data.report.body import FinishedStep

STATES = MADE, FOUND, BROUGHT, OUTSIDE = "made", "found in the store", "brought", "of another run"
BRINGING = ("init", "adopt_reward")
"""Stages that take in what a user brings."""
MOST_METRICS = 2
SHOWN_OF_KEY = 8
LANE, NODE_Y, RADIUS = 15, 15, 5
"""Pixels between two lines, from the top of a row to its artifact, and of the artifact's mark."""


@dataclass(frozen=True)
class Row:
    """One artifact in the picture.

    Attributes:
        name: The step that it was made for; its key, where the run did not make it.
        key: Its key, cut.
        state: Where it comes from: made by the run, found in the store, brought by the user, or made by another run.
        source: What the user brought: a path or a Hub id; empty otherwise.
        takes: Names of the rows that it takes something from.
        metrics: Its main figures, as text.
        svg: The part of the picture that stands beside it.
    """

    name: str
    key: str
    state: str
    source: str
    takes: tuple[str, ...]
    metrics: str
    svg: Markup


@dataclass(frozen=True)
class Picture:
    """All rows, the width of their lines in pixels, and the mark of each state that occurs."""

    rows: tuple[Row, ...]
    width: int
    legend: Mapping[str, Markup]


@dataclass(frozen=True)
class _Line:
    """The line of an artifact: its place from the left, the row that it starts in and the last row that takes it."""

    lane: int
    first: int
    last: int
    colour: str


def lineage_picture(steps: Sequence[FinishedStep], found: Sequence[str] = ()) -> Picture:
    """The lineage of a run. Steps that have no manifest are left out.

    Args:
        steps: What the run did, in its order.
        found: Names of the steps whose artifacts the run found in the store.
    """
    known = {step.name: step.manifest for step in steps if step.manifest}
    names = {manifest.key: name for name, manifest in known.items()}
    inputs = [ref.key for manifest in known.values() for ref in manifest.inputs.values()]
    outside = [key for key in dict.fromkeys(inputs) if key not in names]
    names |= {key: _cut(key) for key in outside}
    takes = {name: _sources(manifest, names) for name, manifest in known.items()}
    lines = _lines([*(names[key] for key in outside), *known], takes)
    width = LANE * (1 + max((line.lane for line in lines.values()), default=0))
    rows = [_outside(names[key], lines, width) for key in outside]
    for name, manifest in known.items():
        state, source = _origin(manifest, name in found)
        svg = _svg(lines[name], [lines[source] for source in takes[name]], lines, width, state)
        metrics = ", ".join(key_metrics(name, manifest)[:MOST_METRICS])
        rows.append(Row(name, _cut(manifest.key), state, source, takes[name], metrics, svg))
    states = {row.state for row in rows}
    return Picture(tuple(rows), width, {state: _legend_mark(state) for state in STATES if state in states})


def _sources(manifest: Manifest, names: Mapping[str, str]) -> tuple[str, ...]:
    """The names of what an artifact takes, each once: it may take two parts of one artifact."""
    return tuple(dict.fromkeys(names[ref.key] for ref in manifest.inputs.values()))


def _outside(name: str, lines: Mapping[str, _Line], width: int) -> Row:
    return Row(name, name, OUTSIDE, "", (), "", _svg(lines[name], (), lines, width, OUTSIDE))


def _cut(key: str) -> str:
    stage, _, digits = key.rpartition("-")
    return f"{stage}-{digits[:SHOWN_OF_KEY]}"


def _origin(manifest: Manifest, found: bool) -> tuple[str, str]:
    """Where an artifact comes from, and the path or Hub id of one that the user brought."""
    path: Any = manifest.config.get("path")
    if manifest.stage in BRINGING and path:
        return BROUGHT, str(path)
    return (FOUND if found else MADE), ""


def _lines(order: Sequence[str], takes: Mapping[str, Sequence[str]]) -> dict[str, _Line]:
    """Name -> its line. A place is free again in the row where its line ends, so that the artifact of that row can go on in it."""
    place = {name: index for index, name in enumerate(order)}
    last = {name: place[name] for name in order}
    for taker, sources in takes.items():
        for source in sources:
            last[source] = max(last[source], place[taker])
    lines: dict[str, _Line] = {}
    for index, name in enumerate(order):
        busy = {line.lane for line in lines.values() if line.last > index}
        lane = next(lane for lane in range(len(order) + 1) if lane not in busy)
        lines[name] = _Line(lane, index, last[name], COLOURS[index % len(COLOURS)])
    return lines


def _svg(own: _Line, sources: Sequence[_Line], lines: Mapping[str, _Line], width: int, state: str) -> Markup:
    """The picture beside one row, as high as the row: the lines that pass, those that end here, and the mark of the artifact."""
    row, x = own.first, _x(own.lane)
    parts = []
    for line in lines.values():
        if line.first <= row <= line.last and line.first < line.last:
            top = str(NODE_Y) if line.first == row else "0"
            bottom = str(NODE_Y) if line.last == row else "100%"
            at = _x(line.lane)
            parts.append(f'<line x1="{at}" x2="{at}" y1="{top}" y2="{bottom}" stroke="{line.colour}"/>')
    beside = [line for line in sources if line.lane != own.lane]
    for line in sorted(beside, key=lambda line: -abs(line.lane - own.lane)):  # a nearer one is drawn over a farther one
        at = _x(line.lane)
        parts.append(f'<line x1="{at}" x2="{x}" y1="{NODE_Y}" y2="{NODE_Y}" stroke="{line.colour}"/>')
        parts.append(f'<circle cx="{at}" cy="{NODE_Y}" r="3" fill="{line.colour}"/>')
    return Markup(
        f'<svg aria-hidden="true" width="{width}" class="lanes">{"".join(parts)}{_mark(x, own.colour, state)}</svg>'
    )


def _legend_mark(state: str) -> Markup:
    """The mark of a state alone, for the line that explains the marks."""
    side = 2 * RADIUS + 4
    mark = _mark(side / 2, "currentColor", state, side / 2)
    return Markup(f'<svg aria-hidden="true" width="{side}" height="{side}">{mark}</svg>')


def _mark(x: float, colour: str, state: str, y: float = NODE_Y) -> str:
    """Full: made by the run; a ring: found; a square: brought or of another run."""
    if state in (MADE, FOUND):
        fill = colour if state == MADE else "Canvas"
        return f'<circle cx="{x:g}" cy="{y:g}" r="{RADIUS}" fill="{fill}" stroke="{colour}"/>'
    left, top, side = x - RADIUS, y - RADIUS, 2 * RADIUS
    return f'<rect x="{left:g}" y="{top:g}" width="{side}" height="{side}" fill="Canvas" stroke="{colour}"/>'


def _x(lane: int) -> int:
    return LANE * lane + LANE // 2
