"""Checks paths in recipes, and looks at the disk without raising."""

from __future__ import annotations

import os
from pathlib import Path

from alignflow.data.errors import cut, quoted

LONGEST_NAME = 255
"""Bytes of one part of a path that common file systems take."""
LONGEST_PATH = 4000


def checked_path(text: str) -> str:
    """The text of a path, or of a Hub id; raises ValueError, with what to do, for one that names nothing in particular."""
    if not text.strip():
        raise ValueError("the path is empty: name a file, a folder or a Hub id, or leave the key out")
    if "\0" in text:
        raise ValueError(f"the path {quoted(text)} has a NUL character, which no path has")
    encoded = _encoded(text)
    longest = max(len(part) for part in encoded.split(b"/"))
    if longest > LONGEST_NAME or len(encoded) > LONGEST_PATH:
        raise ValueError(
            f"the path {quoted(text)} is too long: {LONGEST_NAME} bytes for each part, and {LONGEST_PATH} in all, are the most"
        )
    expanded = _expanded(text)
    if not expanded.strip("/"):
        raise ValueError(f"the path {quoted(text)} is the root of the file system: name a folder below it")
    if os.path.normpath(expanded) == os.path.normpath(os.path.expanduser("~")):
        raise ValueError(f"the path {quoted(text)} is the whole home directory: name a file or folder in it")
    return text


def is_there(path: Path) -> bool:
    """Whether something is at a path; False, too, for a text that can be no path."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def is_file(path: Path) -> bool:
    """Whether a file is at a path; False, too, for a text that can be no path."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the path {cut(ascii(text))} is not UTF-8 text: rename the file") from None


def _expanded(text: str) -> str:
    if not text.startswith("~"):
        return text
    expanded = os.path.expanduser(text)
    if expanded.startswith("~"):
        raise ValueError(
            f"the path {quoted(text)} names the home of a user that this machine does not have: write the path in full"
        )
    return expanded
