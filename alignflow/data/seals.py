"""Digests that a small file carries for itself: a byte that changes on disk is found when the file is read."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HEX = 64
_HEAD, _MIDDLE, _TAIL = b'{"seal": "', b'", "content": ', b"}"
_START = len(_HEAD) + HEX + len(_MIDDLE)
_LAST_FIELD = re.compile(rb'"seal":\s*"([0-9a-f]{64}|)"\s*\}\s*\Z')
DIRECTORY_SEAL = "seal.json"


class SealError(ValueError):
    """A file's bytes are not those that its own digest was computed from."""


class UnsealedError(SealError):
    """A file has no digest at all: an older alignflow wrote it."""


def digest_of_bytes(content: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


def sealed(value: Any, indent: int | None = None) -> bytes:
    """JSON of `value` with the digest of its bytes in front; raises ValueError for what JSON cannot hold (NaN)."""
    content = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent).encode()
    return _HEAD + digest_of_bytes(content).encode() + _MIDDLE + content + _TAIL


def unsealed(data: bytes) -> Any:
    """The value that `sealed` wrote.

    Raises:
        UnsealedError: the bytes are JSON, but not in this form.
        SealError: a byte is not the one that was written.
    """
    content = data[_START : -len(_TAIL)]
    if data[: len(_HEAD)] == _HEAD and data == _HEAD + digest_of_bytes(content).encode() + _MIDDLE + content + _TAIL:
        return json.loads(content)
    try:
        value = json.loads(data)
    except ValueError:
        raise SealError("it is not JSON") from None
    if not isinstance(value, dict) or "seal" in value or "content" in value:
        raise SealError("its bytes are not those that were written")
    raise UnsealedError("it carries no digest")


def sealed_text(text: str) -> str:
    """A JSON object whose last field is an empty `seal`, with the digest of the text in that field."""
    found = _LAST_FIELD.search(text.encode())
    if found is None or found.group(1):
        raise ValueError("the last field is not an empty seal")
    head, tail = text.encode()[: found.start(1)], text.encode()[found.end(1) :]
    return (head + digest_of_bytes(head + tail).encode() + tail).decode()


def check_text(data: bytes) -> None:
    """Raise SealError unless `data` is what `sealed_text` returned, byte for byte."""
    found = _LAST_FIELD.search(data)
    if found is None or digest_of_bytes(data[: found.start(1)] + data[found.end(1) :]).encode() != found.group(1):
        raise SealError("its bytes are not those that were written")


def seal_directory(directory: Path, digests: Mapping[str, str]) -> None:
    """Write down the digests of a directory's files, in the directory; `digests` is name -> SHA-256."""
    (directory / DIRECTORY_SEAL).write_bytes(sealed(dict(digests)))


def directory_digests(directory: Path) -> dict[str, str]:
    """The digests that `seal_directory` wrote.

    Raises:
        SealError: they cannot be trusted.
        UnsealedError: there are none: an older alignflow wrote the directory.
        OSError: they cannot be read now.
    """
    try:
        digests: dict[str, str] = unsealed((directory / DIRECTORY_SEAL).read_bytes())
        return digests
    except FileNotFoundError:
        raise UnsealedError("it carries no digests") from None
