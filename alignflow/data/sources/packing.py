"""Files that are packed: which suffixes say so, how they are opened, and what a file is by its first bytes whatever its name says."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from alignflow.data.errors import DataError, quoted


def _zstd(path: Path) -> io.BufferedReader:
    import pyarrow as pa  # keys read file names, and the flow that computes them needs no pyarrow

    return io.BufferedReader(pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"))


_OPENERS: Mapping[str, Callable[[Path], Any]] = {
    ".gz": gzip.GzipFile,
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
    ".zst": _zstd,
}
PACKED = tuple(_OPENERS)
"""Suffixes of packed files, behind the suffix of what is packed."""
_NAMES = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}
BAD_PACKING = (gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError)
"""What is raised only by a packed file that is cut or damaged; bz2 and zstd raise OSError."""
_SIGNATURES: Mapping[bytes, str] = {
    b"\x1f\x8b\x08": ".gz",
    b"BZh91AY&SY": ".bz2",
    b"\xfd7zXZ\x00": ".xz",
    b"\x28\xb5\x2f\xfd": ".zst",
}
_OTHERS: Mapping[bytes, tuple[str, str]] = {
    b"PAR1": ("a Parquet file", ".parquet"),
    b"ARROW1": ("an Arrow file", ".arrow"),
    b"PK\x03\x04": ("a zip archive, or a table of Excel", ""),
    b"SQLite format 3": ("a database of SQLite", ""),
    b"%PDF-": ("a PDF", ""),
}


def open_file(path: Path, kind: str, packed: str) -> IO[bytes]:
    """The bytes of a file, unpacked where its suffix or its first bytes say that it is packed.

    Args:
        path: The file.
        kind: Its suffix without that of packing.
        packed: A suffix of PACKED, or an empty text.

    Raises:
        DataError: its first bytes are those of another kind of file.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        start = file.read(16)
    if not packed:
        packed = next((suffix for mark, suffix in _SIGNATURES.items() if start.startswith(mark)), "")
    what, suffix = next((found for mark, found in _OTHERS.items() if start.startswith(mark)), ("", ""))
    if what and suffix != kind and not _is_text(path):
        do = (
            f"rename it, so that its name ends in {suffix}"
            if suffix
            else "unpack it, or save it as one of the known kinds"
        )
        raise DataError(f"it is {what}, though its name ends in {quoted(kind)}", where=str(path), do=do)
    return _OPENERS[packed](path) if packed else open(path, "rb")


def _is_text(path: Path) -> bool:
    """Whether a file that begins as another kind does is a text all the same, which has no zero bytes."""
    with open(path, "rb") as file:
        return b"\0" not in file.read(1 << 16)


def not_whole(path: Path, packed: str, error: Exception) -> DataError:
    """The error for a packed file that is cut or damaged."""
    name = _NAMES.get(packed, "packed")
    return DataError(f"not a whole {name} file ({error})", where=str(path), do="fetch it again")
