"""What `alignflow inspect` prints: a summary of the data, then rows in words, or token by token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from alignflow.cli.terminal import Console
from alignflow.data.inspection import Inspection, Rendered, visible
from alignflow.data.parsing import Row

CONTEXT, SUPERVISED = "|", "+"
COLOUR = "green"
LONGEST_TEXT = 400
"""Characters of a text that are shown."""
LONGEST_RUN = 120
"""Tokens of one run that are shown; of a longer one its start and its end."""
LEGEND = f"{SUPERVISED} supervised tokens, {CONTEXT} the others; ␣ blank, ⏎ line end"


def show(console: Console, data: str, found: Inspection, n: int, tokenizer: Any, rendered: Sequence[dict[str, Rendered]]) -> None:
    """Print the summary and the first `n` rows, by their tokens where there is a tokenizer."""
    console.print(Text(data, style="bold"), soft_wrap=True)
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _summary(found):
        table.add_row(Text(f"  {name}"), Text(text, style="yellow" if name == "warning" else ""))
    console.print(table)
    rows = found.counted.rows[:n]
    if rows and tokenizer is not None:
        console.print(Text(LEGEND, style="dim"))
    for number, row in enumerate(rows, 1):
        sides = rendered[number - 1] if rendered else {}
        console.print()
        console.print(Text(f"row {number}: {_figures(row)}", style="bold"), soft_wrap=True)
        for line in _token_lines(tokenizer, sides, console.width - 1) if sides else _text_lines(row):
            console.print(line, soft_wrap=bool(sides))


def _summary(found: Inspection) -> Iterator[tuple[str, str]]:
    counted = found.counted
    others = [kind for kind in found.kinds if kind != found.kind]
    also = f"; --as also takes {', '.join(others)}" if others else ""
    yield "format", f"{found.format or 'not known'}, read as {found.kind}{also}" if found.kind else "not known"
    for column, places in found.uses.became.items():
        yield "column", f"{column} -> {', '.join(places)}"
    for what, columns in (("decides about rows", found.uses.decides), ("empty", found.uses.empty), ("not used", found.uses.unused)):
        if columns:
            yield "column", f"{', '.join(columns)}: {what}"
    reasons = ", ".join(f"{count} {reason}" for reason, count in found.dropped.items())
    yield "rows", f"kept {len(counted.rows)} of {counted.read}{f': {reasons} dropped' if reasons else ''}"
    for reason in found.dropped:
        if reason in counted.examples:
            yield "example", f"{reason}: {_cut(counted.examples[reason])}"
    for warning in found.warnings if found.error is None else found.warnings[:-1]:
        yield "warning", warning


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}... ({len(text):,} characters)"


def _figures(row: Row) -> str:
    """What a row has beside texts: its source, labels and scores."""
    given = [f"{name} {value}" for name, value in row.items() if name not in ("id", "text") and isinstance(value, str | bool | int | float)]
    return ", ".join(given)


def _text_lines(row: Row) -> Iterator[Table]:
    """The prepared columns with texts, each turn with its role."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in row.items():
        items = value if isinstance(value, list) else [value] if name == "text" else []
        for number, item in enumerate(items):
            role, text = (item["role"], item["content"]) if isinstance(item, dict) else (str(number) if name != "text" else "", str(item))
            style = COLOUR if role == "assistant" else ""
            table.add_row(Text(f"  {name}" if not number else ""), Text(role), Text(_cut(text), style=style))
    yield table


def _token_lines(tokenizer: Any, sides: dict[str, Rendered], width: int) -> Iterator[Text]:
    """The tokens of a row in runs of supervised and other ones; a run that an answer before it had as well is not repeated."""
    shown: set[tuple[int, ...]] = set()
    for name, side in sides.items():
        title = f"{name}: " if name else ""
        yield Text(f"  {title}{len(side.ids)} tokens, {sum(side.supervised)} supervised", style="dim")
        for supervised, group in groupby(zip(side.ids, side.supervised, strict=True), key=lambda pair: pair[1]):
            ids = tuple(token for token, _ in group)
            if not supervised and ids in shown:
                yield Text(f"  {CONTEXT} (as above, {len(ids)} tokens)", style="dim")
                continue
            shown.add(ids)
            mark, style = (SUPERVISED, COLOUR) if supervised else (CONTEXT, "")
            for line in _wrapped(_pieces(tokenizer, ids), width - 4):
                yield Text(f"  {mark} {line}", style=style)


def _pieces(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """The tokens of a run as text; the middle of a long one is left out and counted."""
    if len(ids) <= LONGEST_RUN:
        return [visible(tokenizer, token) for token in ids]
    left, right = ids[: LONGEST_RUN * 2 // 3], ids[-LONGEST_RUN // 3 :]
    between = f"... ({len(ids) - len(left) - len(right)} tokens, --json has all) ..."
    return [*(visible(tokenizer, token) for token in left), "⏎", between, "⏎", *(visible(tokenizer, token) for token in right)]


def _wrapped(pieces: Sequence[str], width: int) -> Iterator[str]:
    """Tokens in lines: a line ends where it is full, and after a token that ends a line of the text."""
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
