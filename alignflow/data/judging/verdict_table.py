"""The table of all verdicts of a judge or several, labels or not: what it said in each order, before and after calibration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

VERDICTS = pa.schema(
    [
        ("id", pa.string()),  # of the prompt
        ("judge", pa.string()),  # whose verdict: a file of recorded replies may have several
        (
            "first",
            pa.int32(),
        ),  # position of the first answer among the prompt's completions; null for a pair of a gold set, and in an evaluation, where first is the aligned model's
        ("second", pa.int32()),
        ("probability", pa.float64()),  # P(first is better) of the label; null: no label
        ("given", pa.float64()),  # P(first is better) with the first answer in the first seat
        ("swapped", pa.float64()),  # the same, with the seats swapped
        ("raw_given", pa.float64()),  # as the judge said it; null where nothing was calibrated
        ("raw_swapped", pa.float64()),
        ("mass_given", pa.float64()),  # probability of the judge's options together
        ("mass_swapped", pa.float64()),
        ("gold", pa.float64()),  # 1 first, 0 second, 0.5 tie by people; null: nobody said
        ("reason", pa.string()),  # why there is no label; empty where there is one
        ("principle", pa.string()),  # that was judged by; null: none, or several
        ("rationale_given", pa.string()),  # what the judge wrote before its verdict, in each order; null: nothing
        ("rationale_swapped", pa.string()),
        ("parts", pa.string()),  # JSON: P(first is better) by each principle or member of a jury; null: none
    ]
)
VERDICT_FILE = "verdicts.parquet"


def write_verdicts(rows: Iterable[Mapping[str, Any]], directory: Path) -> None:
    """Write the table into `directory`; a column that a row lacks becomes null."""
    pq.write_table(pa.Table.from_pylist(list(rows), schema=VERDICTS), directory / VERDICT_FILE, compression="zstd")
