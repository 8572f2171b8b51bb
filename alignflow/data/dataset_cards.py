"""Cards of data sets, as the Hub and `datasets` read them: a header in YAML that names licence, sizes and tables, and what a person should know.

A card has no date and no path of a machine: equal data, equal bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from alignflow.data.printable import printable

CARD = "README.md"
COLUMNS: Mapping[str, str] = {
    "id": "name of the row, from its content",
    "source": "where the row is from",
    "prompt": "the conversation before the answer",
    "messages": "the conversation",
    "text": "the text",
    "instructions": "checks of the answer, as JSON",
    "chosen": "the better answer",
    "rejected": "the worse answer",
    "completion": "the answer",
    "completions": "the answers",
    "scores": "one for each answer, higher is better",
    "label": "whether the answer is wanted",
    "tokens": "length of each answer",
    "ended": "whether the answer ended by itself",
    "chosen_ended": "whether the answer ended by itself",
    "rejected_ended": "whether the answer ended by itself",
    "soft_label": "P(chosen is better) by the labeller",
    "margin": "score difference",
    "score_chosen": "score of the chosen answer",
    "score_rejected": "score of the rejected answer",
    "judge": "who labelled: a judge, `human` or `human:ANNOTATOR`",
    "principle": "what the judge went by",
    "rationale": "why, in the judge's words; chosen was shown first",
    "weight": "what the row counts in a loss; none: 1",
    "confidence": "how sure the labeller is, 0 to 1",
    "p_given": "P(chosen is better) as asked with chosen first",
    "p_swapped": "P(chosen is better) as asked with rejected first",
    "tools": "tools of the conversation, as JSON",
}
_SPLITS = {"train": "train", "heldout": "test"}
_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
_LICENCES = re.compile(r"[a-z0-9][a-z0-9.+-]*")


@dataclass(frozen=True)
class CardTable:
    """One table of a data set.

    Attributes:
        name: preferences, rankings, ...
        split: train or test, as the Hub calls the held-out side; another table's own name.
        path: Of its file, below the card.
        rows: How many.
        columns: Their names.
    """

    name: str
    split: str
    path: str
    rows: int
    columns: tuple[str, ...]


def tables_of(payload: Path) -> list[CardTable]:
    """The tables of an artifact of data: each Parquet file of its folders, by folder and with the training side first."""
    found = []
    for path in sorted(
        payload.glob("*/*.parquet"), key=lambda path: (path.parent.name, path.stem != "train", path.stem)
    ):
        with pq.ParquetFile(path) as file:
            rows, names = file.metadata.num_rows, tuple(file.schema_arrow.names)
        folder, split = path.parent.name, re.sub(r"\W", "_", _SPLITS.get(path.stem, path.stem))
        found.append(CardTable(folder, split, f"{folder}/{path.name}", rows, names))
    return found


def card_of(
    tables: Sequence[CardTable],
    licences: Mapping[str, str],
    title: str,
    facts: Mapping[str, str],
    tags: Sequence[str] = (),
) -> str:
    """The card.

    Args:
        tables: What there is; tables without rows are told, and not offered to `datasets`, which cannot tell their types.
        licences: Source -> licence of what went in.
        title: The heading.
        facts: What else a person should know: name -> text.
        tags: For the header, beside `alignflow`.
    """
    header: dict[str, Any] = {**licence_header(licences), "tags": ["alignflow", *tags]}
    header["size_categories"] = [_size(sum(table.rows for table in tables))]
    filled = [table for table in tables if table.rows]
    names = list(dict.fromkeys(table.name for table in filled))
    first = "preferences" if "preferences" in names else names[0] if names else ""
    header["configs"] = [
        {
            "config_name": name,
            **({"default": True} if name == first else {}),
            "data_files": [{"split": table.split, "path": table.path} for table in filled if table.name == name],
        }
        for name in names
    ]
    lines = [f"# {plain(title)}", "", "Made by alignflow.", ""]
    lines += [f"- {plain(name)}: {plain(text)}" for name, text in facts.items()]
    lines += [f"- licence of {plain(name)}: {plain(licence)}" for name, licence in sorted(licences.items())]
    lines += ["", "| table | split | rows | file |", "| --- | --- | ---: | --- |"]
    lines += [f"| {table.name} | {table.split} | {table.rows} | `{table.path}` |" for table in tables]
    columns = list(dict.fromkeys(name for table in tables for name in table.columns))
    lines += ["", "| column | what it is |", "| --- | --- |"]
    lines += [f"| `{plain(name)}` | {COLUMNS.get(name, '')} |" for name in columns]
    return f"---\n{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---\n\n" + "\n".join(lines) + "\n"


def facts_of_card(text: str) -> tuple[str, dict[str, str]]:
    """Title and facts of a card that `card_of` wrote, without its licences; empty where it is none."""
    body = text.split("---\n", 2)[-1]
    title = next((line[2:] for line in body.splitlines() if line.startswith("# ")), "")
    facts = dict(line[2:].split(": ", 1) for line in body.splitlines() if line.startswith("- ") and ": " in line)
    return bare(title), {bare(name): bare(fact) for name, fact in facts.items() if not name.startswith("licence of ")}


def licence_header(licences: Mapping[str, str]) -> dict[str, Any]:
    """The header's licence: that of all that went in, as the Hub writes it, or `other`; none where one is unknown."""
    known = {licence.strip().lower().replace(" ", "-") for licence in licences.values()}
    if not known or "unknown" in known:
        return {"license": "unknown"}
    only = known.pop() if len(known) == 1 else ""
    return {"license": only if _LICENCES.fullmatch(only) else "other"}


def _size(rows: int) -> str:
    return next((name for limit, name in _SIZES if rows < limit), "n>10M")


def plain(text: str) -> str:
    """A text in one line of Markdown, in which it becomes no HTML, link, image, code or cell of a table."""
    return re.sub(r"([\\`<>\[\]&|])", r"\\\1", " ".join(printable(text).split()))


def bare(text: str) -> str:
    """What `plain` was given, as far as it had no control characters."""
    return re.sub(r"\\([\\`<>\[\]&|])", r"\1", text)
