"""The output of `alignflow inspect`: a summary of the data, then rows as text or token by token."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from typing import Any

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from alignflow.cli.terminal import Console
from alignflow.data.inspection import Inspection, Rendered, visible
from alignflow.data.number_text import number_text
from alignflow.data.parsing import Row
from alignflow.data.printable import printable

CONTEXT, SUPERVISED = "|", "+"
COLOUR = "green"
LONGEST_TEXT = 400
"""Most characters of a text that are shown."""
LONGEST_RUN = 120
"""Most tokens of one span that are shown; of a longer span only its start and end."""
LEGEND = f"{SUPERVISED} supervised tokens, {CONTEXT} other tokens; ␣ space, ⏎ line end"


def show(
    console: Console, data: str, found: Inspection, n: int, tokenizer: Any, rendered: Sequence[dict[str, Rendered]]
) -> None:
    """Print the summary and the first `n` rows, as tokens if there is a tokenizer."""
    console.print(_safe(data, style="bold"), soft_wrap=True)
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _summary(found):
        table.add_row(_safe(f"  {name}"), _safe(text, style="yellow" if name == "warning" else ""))
    console.print(table)
    rows = list(islice(found.counted.rows, n))
    if rows and tokenizer is not None:
        console.print(_safe(LEGEND, style="dim"))
    for number, row in enumerate(rows, 1):
        sides = rendered[number - 1] if rendered else {}
        console.print()
        console.print(_safe(f"row {number}: {_figures(row)}", style="bold"), soft_wrap=True)
        for line in _token_lines(tokenizer, sides, console.width - 1) if sides else _text_lines(row):
            console.print(line, soft_wrap=bool(sides))


def _summary(found: Inspection) -> Iterator[tuple[str, str]]:
    counted = found.counted
    others = [kind for kind in found.kinds if kind != found.kind]
    also = f" (--as: {', '.join(others)})" if others else ""
    yield "format", f"{found.format}, read as {found.kind}{also}" if found.format else "not known"
    for column, places in found.uses.became.items():
        yield "column", f"{column} -> {', '.join(places)}"
    if found.uses.seen and not found.uses.became:
        yield "columns", ", ".join(found.uses.seen)
    for what, columns in (("decides about rows", found.uses.decides), ("empty", found.uses.empty)):
        if columns:
            yield "column", f"{', '.join(columns)}: {what}"
    reasons = ", ".join(f"{count} {reason}" for reason, count in found.dropped.items())
    yield "rows", f"kept {len(counted.rows)} of {counted.read}{f': {reasons}' if reasons else ''}"
    for reason in found.dropped:
        if reason in counted.examples:
            yield "dropped", f"{reason}, such as {_cut(counted.examples[reason])}"
    for warning in found.warnings:
        if warning != found.error_line:  # the command prints that one last
            yield "warning", warning


def _safe(text: str, style: str = "") -> Text:
    """The text with control characters escaped, before widths are measured."""
    return Text(printable(text), style=style)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}... ({len(text):,} characters)"


def _figures(row: Row) -> str:
    """A row's source, labels and scores."""
    given = {
        name: value
        for name, value in row.items()
        if name not in ("id", "text") and isinstance(value, str | bool | int | float)
    }
    return ", ".join(
        f"{name} {number_text(value) if isinstance(value, float) else _cut(str(value))}"
        for name, value in given.items()
    )


def _text_lines(row: Row) -> Iterator[Table]:
    """The text columns, each turn with its role."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in row.items():
        items = value if isinstance(value, list) else [value] if name == "text" else []
        for number, item in enumerate(items):
            label, text = _labelled(item, "" if name == "text" else str(number))
            table.add_row(
                _safe(f"  {name}" if not number else ""),
                _safe(label),
                _safe(_cut(text), COLOUR if label == "assistant" else ""),
            )
    yield table


def _labelled(item: Any, number: str) -> tuple[str, str]:
    """A turn's role and text, with its other fields as JSON; for anything else its number and type."""
    if not (isinstance(item, dict) and "role" in item):
        return number, item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)
    others = {key: value for key, value in item.items() if key not in ("role", "content") and value is not None}
    parts = [str(item.get("content") or ""), json.dumps(others, ensure_ascii=False) if others else ""]
    return str(item["role"]), "\n".join(part for part in parts if part)


def _token_lines(tokenizer: Any, sides: dict[str, Rendered], width: int) -> Iterator[Text]:
    """The tokens of a row in spans of supervised and other tokens; context that an earlier answer already showed is not repeated."""
    shown: set[tuple[int, ...]] = set()
    for name, side in sides.items():
        title = f"completion {name}: " if name.isdigit() else f"{name}: " if name else ""
        yield _safe(f"  {title}{len(side.ids)} tokens, {sum(side.supervised)} supervised", style="dim")
        for supervised, group in groupby(zip(side.ids, side.supervised, strict=True), key=lambda pair: pair[1]):
            ids = tuple(token for token, _ in group)
            if not supervised and ids in shown:
                yield _safe(f"  {CONTEXT} (as above, {len(ids)} tokens)", style="dim")
                continue
            shown.add(ids)
            mark, style = (SUPERVISED, COLOUR) if supervised else (CONTEXT, "")
            for line in _run_lines(tokenizer, ids, width - 4):
                yield _safe(f"  {mark} {line}", style)


def _run_lines(tokenizer: Any, ids: Sequence[int], width: int) -> Iterator[str]:
    """The lines of a span of tokens; the middle of a long span is left out and counted."""
    if len(ids) <= LONGEST_RUN:
        yield from _wrapped([visible(tokenizer, token) for token in ids], width)
        return
    start, end = ids[: LONGEST_RUN * 2 // 3], ids[-LONGEST_RUN // 3 :]
    yield from _wrapped([visible(tokenizer, token) for token in start], width)
    yield f"... {len(ids) - len(start) - len(end)} more tokens (--json has all) ..."
    yield from _wrapped([visible(tokenizer, token) for token in end], width)


def _wrapped(pieces: Sequence[str], width: int) -> Iterator[str]:
    """Tokens in lines: a line ends when it is full, and after a token that ends a line of the text."""
    line: list[str] = []
    for index, piece in enumerate(pieces):
        if line and sum(cell_len(other) + 1 for other in line) + cell_len(piece) > width:
            yield " ".join(line)
            line = []
        line.append(piece)
        if piece.endswith("⏎") and not (index + 1 < len(pieces) and pieces[index + 1].startswith("⏎")):
            yield " ".join(line)
            line = []
    if line:
        yield " ".join(line)
