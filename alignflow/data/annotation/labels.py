"""What labellers said of pairs, by name, from annotations, files of labels and labelled data sets: for their agreement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from alignflow.data import catalogue
from alignflow.data.annotation.answers import votes_by_annotator
from alignflow.data.configs.inputs import SourceConfig
from alignflow.data.errors import DataError
from alignflow.data.records import pair_key
from alignflow.data.sources.base import BrokenLine, RowError
from alignflow.data.sources.reading import read_rows
from alignflow.data.sources.votes import is_votes, two_answers, votes_of

Labels = dict[str, dict[str, str]]
"""Labeller -> pair -> first, second or tie: which of the two texts, in sorted order, is the better one."""
_WORDS = {0.0: "second", 0.5: "tie", 1.0: "first"}


def labels_of_annotation(directory: Path, pairs: Iterable[Any]) -> Labels:
    """What the annotators of a directory said; skipped pairs are no label."""
    words = {"a": 1.0, "b": 0.0, "tie": 0.5}
    keys = {pair.id: pair_key(pair.prompt, pair.response_a, pair.response_b) for pair in pairs}
    found = {
        name: {
            keys[item][0]: _said(words[answer.preference], keys[item][1])
            for item, answer in answers.items()
            if item in keys
        }
        for name, answers in votes_by_annotator(directory).items()
    }
    return {name: own for name, own in found.items() if own}


def labels_of_file(path: str) -> tuple[Labels, dict[str, int]]:
    """What a file of labels in any known shape of pairs says, and how many rows say nothing, by reason.

    A vote without a name is that of its place in its row (1, 2, ...), a pair without a judge that of the file.

    Raises:
        DataError: not one row has a label.
    """
    rows = (row for row in read_rows(SourceConfig(path=path)) if not isinstance(row, BrokenLine))
    found, left_out = labels_of_rows(rows, Path(path).name)
    if not found:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "no rows"
        raise DataError(
            f"no label of two answers in it ({reasons})",
            where=path,
            do="give votes or pairs; `alignflow inspect` shows what it is",
        )
    return found, left_out


def labels_of_rows(rows: Iterable[Mapping[str, Any]], name: str) -> tuple[Labels, dict[str, int]]:
    """See `labels_of_file`; `name` is the labeller of pairs that name none."""
    found: Labels = {}
    left_out: dict[str, int] = {}
    for row in rows:
        try:
            if is_votes(row):
                key, turned = pair_key(*two_answers(dict(row)))
                votes = votes_of(dict(row))
                names = [
                    vote.annotator or (name if len(votes) == 1 else str(place)) for place, vote in enumerate(votes, 1)
                ]
                said = [_said(vote.share, turned) for vote in votes]
            else:
                (pair,) = catalogue.FORMATS["trl"].resolve()(dict(row), "preferences")
                key, turned = pair_key(pair["prompt"], pair["chosen"][-1]["content"], pair["rejected"][-1]["content"])
                names, said = [pair.get("judge", name)], [_said(1.0, turned)]
        except RowError as error:
            left_out[error.reason] = left_out.get(error.reason, 0) + 1
            continue
        except (KeyError, TypeError, AttributeError, ValueError):
            left_out["malformed"] = left_out.get("malformed", 0) + 1
            continue
        for each, word in zip(names, said, strict=True):
            found.setdefault(each, {})[key] = word
    return found, left_out


def _said(share: float, turned: bool) -> str:
    return _WORDS[1.0 - share if turned else share]
