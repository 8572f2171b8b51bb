"""Text files as UTF-8 bytes, whatever they were written in: byte order marks and UTF-16 are recognised, and nothing is replaced."""

from __future__ import annotations

import codecs
import io
from typing import IO, Any

from alignflow.data.errors import DataError

BOM = codecs.BOM_UTF8
_MARKS = (  # those of UTF-32 first: the little one starts with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (BOM, "utf-8"),
)
_LOOKED_AT = 4096
_MANY, _FEW = 0.3, 0.1  # shares of zero bytes: of the high bytes, from letters below U+0100, and of the low ones
_NAMES = {"utf-16-le": "UTF-16", "utf-16-be": "UTF-16", "utf-32-le": "UTF-32", "utf-32-be": "UTF-32"}


def as_utf8(file: IO[bytes], where: str) -> io.BufferedReader[Any]:
    """The file's text in UTF-8 and without a byte order mark.

    UTF-8 itself is not decoded here: its reader knows which line is none. A file in UTF-16 or UTF-32 is decoded as it is read,
    and raises DataError at the first bytes that are no text.
    """
    buffered = file if isinstance(file, io.BufferedReader) else io.BufferedReader(file)  # type: ignore[type-var]
    start = buffered.peek(_LOOKED_AT)[:_LOOKED_AT]
    mark, encoding = encoding_of(start)
    buffered.read(len(mark))
    return buffered if encoding == "utf-8" else io.BufferedReader(_Recoded(buffered, encoding, where))


def encoding_of(start: bytes) -> tuple[bytes, str]:
    """The byte order mark that some first bytes have, and the encoding: that of the mark, or UTF-16 or UTF-32 where it is evident."""
    return next(((mark, encoding) for mark, encoding in _MARKS if start.startswith(mark)), (b"", _without_mark(start)))


def _without_mark(start: bytes) -> str:
    """By the places of the zero bytes, of which a text in UTF-8 has none; utf-8 where they do not say it."""
    start = start[: len(start) // 4 * 4] or start[: len(start) // 2 * 2]
    if b"\0" not in start:
        return "utf-8"
    if len(start) >= 8:
        one, two, three, four = (start[place::4].count(0) / (len(start) // 4) for place in range(4))
        if four == 1 and min(two, three) >= _MANY and one <= _FEW:
            return "utf-32-le"
        if one == 1 and min(two, three) >= _MANY and four <= _FEW:
            return "utf-32-be"
    first, second = (start[place::2].count(0) / (len(start) // 2) for place in range(2))
    if second >= _MANY and first <= _FEW:
        return "utf-16-le"
    return "utf-16-be" if first >= _MANY and second <= _FEW else "utf-8"


class _Recoded(io.RawIOBase):
    """Bytes of another encoding, read as UTF-8."""

    def __init__(self, file: IO[bytes], encoding: str, where: str):
        self._file, self._where, self._name, self._left = file, where, _NAMES[encoding], b""
        self._decoder = codecs.getincrementaldecoder(encoding)("strict")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        """Fill the buffer with the next bytes; 0 at the end."""
        ended = False
        while not self._left and not ended:
            chunk = self._file.read(1 << 16)
            ended = not chunk
            try:
                self._left = self._decoder.decode(chunk, final=ended).encode()
            except UnicodeError as error:
                reason = getattr(error, "reason", None) or str(error)
                raise DataError(
                    f"it is no {self._name} text ({reason})", where=self._where, do="save it as UTF-8"
                ) from None
        size = min(len(buffer), len(self._left))
        buffer[:size], self._left = self._left[:size], self._left[size:]
        return size
