"""Word lists in files: one word per line, or word, tab and value."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from alignflow.data.errors import DataError


@functools.lru_cache(maxsize=32)
def read_lexicon(path: str) -> Mapping[str, float]:
    """Words (lower case) and values of a lexicon file; a line without a value counts 1, `#` starts a comment.

    Raises DataError if the file is missing, is not UTF-8, has no word, or a value that is not a number.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"the lexicon cannot be read ({error})", where=path, do="use a UTF-8 file of lines word<TAB>value"
        ) from error
    values: dict[str, float] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        word, tab, value = line.partition("\t")
        try:
            values[word.strip().lower()] = float(value) if tab else 1.0
        except ValueError:
            raise DataError(
                f"not a number: {value!r}", where=f"{path} line {number}", do="write word<TAB>value"
            ) from None
    if not values:
        raise DataError("the lexicon has no words", where=path, do="write one word per line, or word<TAB>value")
    return MappingProxyType(values)
