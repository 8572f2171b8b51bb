"""Ids of ASCII texts word by word, for the byte-level tokenizers whose division of a text into words is known.

A byte-level BPE divides a text into words by a regular expression, and encodes each word without a look at the others. Most words of a
batch were seen before, so that only new ones are given to the tokenizer. Only ASCII texts are divided into words here: for them the classes
of characters of the tokenizer's regular expressions are plain, whatever version of Unicode it follows. Where numbers of tokens are all that is
wanted, other texts are divided as well, at places where every such expression begins a new word: before a single blank, and after a single line break.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

_BLANK, _LETTER, _DIGIT = r"\t\n\x0b\x0c\r ", "A-Za-z", "0-9"
_FOLDED = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""The regular expression of tokenizers' ByteLevel."""

_ALTERNATIVES = frozenset(
    [
        *_GPT2.split("|"),
        r"[^\r\n\p{L}\p{N}]?\p{L}+",
        r"\p{N}{1,3}",
        r"\p{N}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
    ]
)
"""What the regular expressions of GPT-2, Llama-3, Qwen2 and their like are made of."""

_ROOM, _ROOM_FOR_SIZES = 8_000_000, 2_000_000
"""Characters of words that are remembered with their ids, and with the number of these; then the memory is emptied."""

_SURE = re.compile(r"(?<=\S)(?= \S)|(?<=\S\n)(?=\S)")
"""Places between two words in each of these expressions, which may be cut without a change of the words beside them: a blank between two other
characters begins a word, and a line break between two ends one. What Python takes for no blank (\\S) is none to the tokenizer, and no normal form
joins characters across such a place."""


class Words:
    """The words of a tokenizer that were encoded so far.

    Args:
        tokenizer: The tokenizer.
        pattern: Finds the words of an ASCII text; see `pattern_of`.

    Attributes:
        sizes: The tokens of each word that was counted so far.
    """

    def __init__(self, tokenizer: Any, pattern: re.Pattern[str]) -> None:
        self._backend = tokenizer._tokenizer
        self._pattern = pattern
        self._known: dict[str, list[int]] = {}
        self._lengths: dict[int, int] = {}
        self._size = 0
        self.sizes: dict[str, int] = {}
        self._room = _ROOM_FOR_SIZES

    def encode(self, texts: Sequence[str]) -> dict[str, list[int]]:
        """Ids of texts without control tokens; those are left out that are not ASCII, or have a word whose tokens are not its characters."""
        if self._size > _ROOM:
            self._known, self._size = {}, 0
        divided = {text: self._pattern.findall(text) for text in texts if text.isascii()}
        known = self._known
        if new := {word for words in divided.values() for word in words if word not in known}:
            self._learn(new)
        found = {}
        for text, words in divided.items():
            try:
                found[text] = [number for word in words for number in known[word]]
            except KeyError:
                continue
        return found

    def divide(self, text: str) -> list[str]:
        """The words of a text without control tokens; where it is not ASCII, some of them may stay together."""
        if text.isascii():
            return self._pattern.findall(text)
        return [
            word for part in _SURE.split(text) for word in (self._pattern.findall(part) if part.isascii() else [part])
        ]

    def make_room(self) -> None:
        """Forget the sizes of words where they are too many."""
        if self._room < 0:
            self.sizes, self._room = {}, _ROOM_FOR_SIZES

    def learn_sizes(self, words: Iterable[str]) -> None:
        """Count the tokens of new words that `divide` gave; those have no size that are not encoded for themselves."""
        new = [
            word
            for word in words
            if word not in self.sizes and (not word.isascii() or self._pattern.findall(word) == [word])
        ]
        for word, found in zip(new, self._backend.encode_batch_fast(new, add_special_tokens=False), strict=True):
            if not word.isascii() or sum(map(self._length, found.ids)) == len(word):
                self.sizes[word] = len(found)
                self._room -= len(word)

    def places(self, ids: Iterable[int]) -> list[tuple[int, int]]:
        """The characters from which each token of a text comes that `encode` encoded."""
        spans, end = [], 0
        for number in ids:
            begin, end = end, end + self._length(number)
            spans.append((begin, end))
        return spans

    def _learn(self, words: Iterable[str]) -> None:
        new = [word for word in words if self._pattern.findall(word) == [word]]
        for word, found in zip(new, self._backend.encode_batch_fast(new, add_special_tokens=False), strict=True):
            ids = found.ids
            if sum(map(self._length, ids)) == len(word):
                self._known[word] = ids
                self._size += len(word)

    def _length(self, number: int) -> int:
        """Bytes of a token: a byte-level token has a character for each."""
        found = self._lengths.get(number)
        if found is None:
            found = self._lengths[number] = len(self._backend.id_to_token(number))
        return found


def words_of(tokenizer: Any) -> Words | None:
    """The words of a tokenizer; None where its division of a text into words is not known, or a word is not encoded for itself."""
    backend = tokenizer._tokenizer
    model = backend.model
    plain = type(model).__name__ == "BPE" and not (
        model.dropout or model.continuing_subword_prefix or model.end_of_word_suffix or model.unk_token
    )
    if not plain or (backend.normalizer is not None and _settings(backend.normalizer) != {"type": "NFC"}):
        return None
    pattern = _pattern_of(_settings(backend.pre_tokenizer)) if backend.pre_tokenizer is not None else None
    return None if pattern is None else Words(tokenizer, re.compile(pattern))


def _settings(part: Any) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads(part.__getstate__())
    return settings


def _pattern_of(settings: dict[str, Any]) -> str | None:
    """The regular expression that divides ASCII texts as a pre-tokenizer with these settings does; None where that is not known."""
    parts = settings["pretokenizers"] if settings["type"] == "Sequence" else [settings]
    last = parts[-1]
    if last["type"] != "ByteLevel" or last["add_prefix_space"] or len(parts) > 2:
        return None
    if len(parts) == 1:
        return ascii_pattern(_GPT2) if last["use_regex"] else None
    first = parts[0]
    if first == {"type": "Digits", "individual_digits": True} and last["use_regex"]:
        return ascii_pattern(
            _GPT2.replace(r" ?\p{N}+", r"\p{N}").replace(r"(?!\S)", r"(?![^\s\p{N}])", 1)
        )  # a text ends at each digit
    if first["type"] != "Split" or first["behavior"] != "Isolated" or first["invert"] or last["use_regex"]:
        return None
    pattern = first["pattern"].get("Regex", "")
    alternatives = set(pattern.removeprefix(_FOLDED + "|").split("|"))
    whole = (
        all(any(kind in text for text in alternatives) for kind in (r"\p{L}+", r"\p{N}", r"[^\s\p{L}\p{N}]+"))
        and r"\s+" in alternatives
    )
    return ascii_pattern(pattern) if whole and alternatives <= _ALTERNATIVES else None


def ascii_pattern(pattern: str) -> str:
    """A regular expression of tokenizers as Python writes it for ASCII texts."""
    inside = {r"\p{L}": _LETTER, r"\p{N}": _DIGIT, r"\s": _BLANK}
    parts = re.split(r"(\[\^?(?:\\.\{?\w?\}?|[^\]])*\])", pattern)
    for place, part in enumerate(parts):
        for name, characters in inside.items():
            part = part.replace(name, characters if place % 2 else f"[{characters}]")
        parts[place] = part.replace(r"\S", f"[^{_BLANK}]")
    return "".join(parts)
