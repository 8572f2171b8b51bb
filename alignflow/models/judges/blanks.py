"""Which answers are blank: they have nothing that a reader sees."""

from __future__ import annotations

import unicodedata

# Separators, control characters, and format characters such as the zero-width ones, the soft hyphen and the byte order mark.
_UNSEEN_CATEGORIES = frozenset({"Zs", "Zl", "Zp", "Cc", "Cf"})
# Unicode counts these as letters, marks and symbols, but they are invisible: grapheme joiner, Hangul and Khmer
# fillers, the empty Braille cell, variation selectors.
_UNSEEN = frozenset(
    map(
        chr,
        (
            0x034F,
            0x115F,
            0x1160,
            0x17B4,
            0x17B5,
            0x2800,
            0x3164,
            0xFFA0,
            *range(0xFE00, 0xFE10),
            *range(0x180B, 0x1810),
        ),
    )
)


def is_blank(text: str) -> bool:
    """Whether a text is empty, or only white space and invisible characters."""
    return all(character in _UNSEEN or unicodedata.category(character) in _UNSEEN_CATEGORIES for character in text)


def same_answer(first: str, second: str) -> bool:
    """Whether two texts are the same answer: they are equal, or both are blank."""
    return first == second or (is_blank(first) and is_blank(second))
