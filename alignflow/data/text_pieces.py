"""Many texts of a chat template to token ids at once: cut at control tokens, each different piece encoded once, all in one call.

A tokenizer looks for its control tokens before it does anything else, and encodes what stands between them piece by piece. So the
ids of a text are those of its pieces, in a row, wherever a control token cannot be mistaken for a part of something else. That is so
where no other added token overlaps it, contains it or begins with it, where it takes no blanks beside it, and where nothing in the tokenizer
asks for the place of a piece in the text. Where it is not so, a text is one piece.
"""

from __future__ import annotations

import json
import re
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from alignflow.data.token_ids import Span, without_gaps
from alignflow.data.word_ids import Words, words_of

_NOWHERE = re.compile(r"((?!))")


@dataclass(frozen=True)
class Ways:
    """How texts of a tokenizer can be cut.

    Attributes:
        border: Finds the control tokens at which they are cut.
        controls: These tokens, and the ids of each.
        words: How a piece between them is cut into words; None where that is not known, or there are other added tokens.
        size: Tokens of the tokenizer, which tell whether some were added since.
        openings: The characters that those control tokens begin with.
    """

    border: re.Pattern[str]
    controls: dict[str, list[int]]
    words: Words | None
    size: int
    openings: tuple[str, ...]

    def has_control(self, text: str) -> bool:
        """Whether one of the control tokens stands in a text."""
        return any(opening in text for opening in self.openings) and self.border.search(text) is not None


_WAYS: weakref.WeakKeyDictionary[Any, Ways] = weakref.WeakKeyDictionary()


class Pieces:
    """The pieces of many texts: first all are cut, then `encode` encodes them, then ids are asked for.

    Args:
        tokenizer: A tokenizer for which `can_encode` is true.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        ways = ways_of(tokenizer)
        self._border, self._words = ways.border, ways.words
        self._wanted: dict[str, None] = {}
        self._known: dict[str, Any] = {}
        self._controls = ways.controls
        self._ids: dict[str, list[int]] = {"": [], **ways.controls}

    def cut(self, text: str) -> list[str]:
        """The pieces of a text, to be encoded with the others: text, control token, text, and so on; they begin and end with a text."""
        pieces = self._border.split(text)
        self._wanted.update(dict.fromkeys(pieces))
        return pieces

    def encode(self) -> None:
        """Encode all pieces that were cut."""
        texts = [text for text in self._wanted if text and text not in self._ids]
        backend = as_called(self._tokenizer)
        if self._words is not None:
            self._ids.update(self._words.encode(texts))
            texts = [text for text in texts if text not in self._ids]
        for text, found in zip(texts, backend.encode_batch(texts, add_special_tokens=False), strict=True):
            self._known[text] = found
            self._ids[text] = found.ids

    def ids(self, pieces: Iterable[str]) -> list[int]:
        """Ids of pieces in a row."""
        known = self._ids
        return [number for piece in pieces for number in known[piece]]

    def places(self, pieces: Sequence[str]) -> list[tuple[int, int, list[Span]]]:
        """For each piece of a text its begin and end, and the characters of the text from which each of its tokens comes."""
        found, begin, last = [], 0, 0
        for piece in pieces:
            spans = without_gaps(((begin + start, begin + end) for start, end in self._offsets(piece)), last)
            found.append((begin, begin + len(piece), spans))
            begin, last = begin + len(piece), max([last, *(end for _, end in spans)])
        return found

    def divided(self, head: Sequence[str], tail: Sequence[str]) -> tuple[list[int], list[int]] | None:
        """Ids of the text before a border, and of what follows it in the whole text; None where a token of the whole may reach across.

        Args:
            head: Pieces of the text before the border.
            tail: Pieces of the whole text from where the last piece of `head` begins.
        """
        opening, first = self._ids[head[-1]], self._ids[tail[0]]
        count, border = len(opening), len(head[-1])
        if first[:count] != opening or not (border == 0 or self._parts_at(head[-1], tail, count)):
            return None
        return self.ids(head), [*first[count:], *self.ids(tail[1:])]

    def _parts_at(self, head: str, tail: Sequence[str], count: int) -> bool:
        """Whether the first `count` tokens end, and the next begins, where `head` ends."""
        border = len(head)
        first = self._known.get(tail[0])
        if first is None:  # word by word, so that each token is the characters that it stands for
            return head not in self._known
        here = first.token_to_chars(count) if count < len(first) else (len(tail[0]), 0)
        before = first.token_to_chars(count - 1) if count else None
        return here is not None and before is not None and here[0] >= border and before[1] >= border

    def _offsets(self, piece: str) -> Sequence[Span]:
        found = self._known.get(piece)
        if found is not None:
            offsets: Sequence[Span] = found.offsets
            return offsets
        if piece in self._controls:
            return [(0, len(piece))]
        return self._words.places(self._ids[piece]) if self._words is not None else ()


def can_encode(tokenizer: Any) -> bool:
    """Whether the tokenizer encodes by its backend alone, so that a call of the backend gives the ids of a call of the tokenizer."""
    from transformers import PreTrainedTokenizerFast

    kind = type(tokenizer)
    return (
        isinstance(tokenizer, PreTrainedTokenizerFast)
        and kind._encode_plus is PreTrainedTokenizerFast._encode_plus
        and kind.__call__ is PreTrainedTokenizerFast.__call__
    )


def as_called(tokenizer: Any) -> Any:
    """The backend, set as a call of the tokenizer without further arguments sets it: nothing is cut or filled up, control tokens are found."""
    backend = tokenizer._tokenizer
    if backend.truncation is not None:
        backend.no_truncation()
    if backend.padding is not None:
        backend.no_padding()
    if backend.encode_special_tokens != tokenizer.split_special_tokens:
        backend.encode_special_tokens = tokenizer.split_special_tokens
    return backend


def ways_of(tokenizer: Any) -> Ways:
    """How texts of this tokenizer can be cut; looked up once."""
    found = _WAYS.get(tokenizer)
    if found is None or found.size != len(tokenizer):
        added = list(tokenizer.added_tokens_decoder.values())
        cuts = _cuts(added) if _is_blind_to_places(tokenizer) else []
        border = re.compile(f"({'|'.join(map(re.escape, cuts))})") if cuts else _NOWHERE
        controls = {text: [tokenizer.convert_tokens_to_ids(text)] for text in cuts}
        words = words_of(tokenizer) if len(cuts) == len(added) else None  # no piece has an added token
        found = _WAYS[tokenizer] = Ways(border, controls, words, len(tokenizer), tuple({text[0] for text in cuts}))
    return found


def _is_blind_to_places(tokenizer: Any) -> bool:
    """Whether nothing in the tokenizer asks where in a text a piece stands, as SentencePiece does that puts a blank before the first."""
    backend = tokenizer._tokenizer
    if tokenizer.split_special_tokens:
        return False
    settings = [_settings(part) for part in (backend.normalizer, backend.pre_tokenizer, backend.post_processor)]
    return '"prepend_scheme": "first"' not in settings[1] and '"trim_offsets": true' not in settings[2]


def _settings(part: Any) -> str:
    return "" if part is None else json.dumps(json.loads(part.__getstate__()))


def _cuts(added: Sequence[Any]) -> list[str]:
    """The added tokens that are always found where they stand."""
    texts = {token.content for token in added}
    return sorted(
        token.content
        for token in added
        if _takes_itself_alone(token) and not any(_disturbs(text, token.content) for text in texts)
    )


def _takes_itself_alone(token: Any) -> bool:
    """Whether the token is looked for as it is, and no blank or letter at its ends has a meaning for what stands beside it."""
    ends = f"{token.content[:1]}{token.content[-1:]}"
    plain = not (token.normalized or token.lstrip or token.rstrip or token.single_word)
    return plain and bool(ends) and not any(end.isspace() or end.isalnum() or end == "_" for end in ends)


def _disturbs(other: str, text: str) -> bool:
    """Whether another token, found first, could take some of the characters of `text`, or `text` some of its own."""
    if other == text:
        return any(text.endswith(text[:size]) for size in range(1, len(text)))
    return text in other or any(other.endswith(text[:size]) for size in range(1, len(text)))
