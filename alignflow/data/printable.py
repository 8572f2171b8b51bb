"""Text of models, data and files where a person reads it: nothing in it can steer a terminal or turn the reading direction."""

from __future__ import annotations

import re

_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, but tab and line feed: an escape sequence can rewrite what stands on the screen
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks of reading direction: they show text in another order than it is in
    "\u2028\u2029\ufeff\ufff9-\ufffb"  # separators that end a line for some readers; annotations
    "\ud800-\udfff"  # halves of characters: no encoder takes them
    "\U000e0000-\U000e007f]"  # tags: invisible copies of ASCII
)


def printable(text: str) -> str:
    """The text with every character that steers the display written out, such as \\x1b or \\u202e; tabs and line feeds stay."""
    return _STEERING.sub(_written_out, text.replace("\r\n", "\n"))


def _written_out(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
