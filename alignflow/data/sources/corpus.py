"""The texts that a tokenizer is trained on: all those of some sources, whatever their format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from alignflow.data.configs.inputs import SourceConfig
from alignflow.data.sources.base import BrokenLine
from alignflow.data.sources.reading import read_rows


def iter_corpus_texts(sources: Iterable[SourceConfig], left_out: Counter[str]) -> Iterator[str]:
    """Every text of some sources. Rows that cannot be read are counted in `left_out`, by their reason.

    Raises:
        DataError: a source is missing, empty, or not what its name says.
    """
    for source in sources:
        for row in read_rows(source):
            if isinstance(row, BrokenLine):
                left_out[row.reason] += 1
            else:
                yield from _texts(row)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
