"""Columns of a pair that say how it came by its label: who labelled, with what weight, how sure, and why."""

from __future__ import annotations

from typing import Any

from alignflow.data.records import LABELLING
from alignflow.data.sources.base import Row, RowError, flag, is_blank, number, probability

HUMAN = "human"
"""Name of a labeller that is a person; `human:anna` where the data tells who."""
ANNOTATORS = ("annotator", "annotator_id")
_TEXTS = ("judge", "principle", "rationale")
_PROBABILITIES = ("confidence", "p_given", "p_swapped")


def labelling(row: Row) -> Row:
    """The columns of LABELLING that a raw row has something in.

    Raises:
        RowError: `unknown_weight`: a weight that is not a number of at least 0; `nothing_to_train`: a weight of 0; `not_text`;
            `no_probability`: a confidence or probability outside of 0 to 1.
    """
    found: Row = {}
    for name in _TEXTS:
        if name in row and not is_blank(row[name]):
            if not isinstance(row[name], str):
                raise RowError("not_text")
            found[name] = row[name]
    if "judge" not in found and (annotator := annotator_of(row)) is not None:
        found["judge"] = f"{HUMAN}:{annotator}"
    if "weight" in row and (weight := weight_of(row["weight"])) is not None:
        found["weight"] = weight
    for name in _PROBABILITIES:
        if name in row and (value := probability(row[name])) is not None:
            found[name] = value
    return found


def weight_of(value: Any) -> float | None:
    """What a row counts in a loss; None for 1, and where nothing is said. Raises RowError, see `labelling`."""
    try:
        is_word = isinstance(value, str) and not value.strip().replace(".", "", 1).lstrip("-").isdecimal()
        found = flag(value) if is_word or isinstance(value, bool) else number(value)
    except RowError:
        raise RowError("unknown_weight") from None
    if found is not None and found < 0:
        raise RowError("unknown_weight")
    if found is not None and found == 0:
        raise RowError("nothing_to_train")
    return None if found is None or found == 1 else float(found)


def annotator_of(row: Row) -> str | None:
    """The name of the person who labelled a row; None where it is not told."""
    given = next((row[name] for name in ANNOTATORS if name in row and not is_blank(row[name])), None)
    if isinstance(given, bool) or not isinstance(given, str | int | None):
        raise RowError("not_text")
    return None if given is None else str(given).strip()


def with_labelling(found: Row, row: Row) -> Row:
    """A parsed pair with the columns of LABELLING: its own, where the parser found some, else those of the raw row."""
    together = {**labelling(row), **found}
    return {name: value for name, value in together.items() if name not in LABELLING or value is not None}
