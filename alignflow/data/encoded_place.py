"""Where the token ids of tables lie in a store, and whether a file of them is whole: what gc and verify need to know."""

from __future__ import annotations

from pathlib import Path

from alignflow.data.artifacts import file_digest
from alignflow.data.seals import SealError

PLACE = "encoded"
TABLE_DIGITS = 40
TEMPORARY = ".encoding-"


def directory_of(encoded: Path, table_digest: str) -> Path:
    """The directory of all files of token ids of a table, which is known by the digest of its bytes."""
    return encoded / table_digest[:TABLE_DIGITS]


def check_whole(path: Path) -> None:
    """Raise SealError unless a file of token ids has the bytes whose digest ends its name."""
    if path.stem.rpartition("-")[2] != file_digest(path):
        raise SealError("its bytes are not those that were written")
