"""Text to token ids, each with its place in the text; control tokens in a user's text stay text."""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Span = tuple[int, int]


@dataclass(frozen=True)
class ControlTokens:
    """A tokenizer's control tokens.

    Attributes:
        special: Finds those that must never come from a user's text.
        any: Finds these, and the other tokens that were added as a whole (such as `</think>`).
        ids: Ids of the special ones.
        texts: The special ones.
    """

    special: re.Pattern[str]
    any: re.Pattern[str]
    ids: frozenset[int]
    texts: frozenset[str]


_MARKUP = re.compile(r"<\|.*\|>", re.DOTALL)
"""Tokens of this form are control tokens also where a tokenizer calls them ordinary, as some fine-tuned models do with `<|im_end|>`."""
_CONTROLS: weakref.WeakKeyDictionary[Any, ControlTokens] = weakref.WeakKeyDictionary()


def controls_of(tokenizer: Any) -> ControlTokens:
    """The tokenizer's control tokens; read once."""
    found = _CONTROLS.get(tokenizer)
    if found is None:
        added = tokenizer.added_tokens_decoder
        controls = {
            number: str(token) for number, token in added.items() if token.special or _MARKUP.fullmatch(str(token))
        }
        special = {*map(str, tokenizer.all_special_tokens), *controls.values()}
        whole = special | {
            str(token) for token in added.values() if str(token).strip()
        }  # not the runs of blanks that Gemma adds
        found = ControlTokens(
            _any_of(special),
            _any_of(whole),
            frozenset({*controls, *tokenizer.all_special_ids}),
            frozenset(filter(None, special)),
        )
        _CONTROLS[tokenizer] = found
    return found


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    ordered = sorted((text for text in texts if text), key=lambda text: (-len(text), text))
    return re.compile("|".join(map(re.escape, ordered)) or r"(?!)")


def text_ids(tokenizer: Any, text: str) -> list[int]:
    """Ids of a text without its control tokens: they are encoded as what they look like."""
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"] if text else []


def template_ids(tokenizer: Any, text: str, literal: Sequence[Span] = ()) -> tuple[list[int], list[Span]]:
    """Ids of what a template wrote, and the characters from which each comes.

    Args:
        tokenizer: The tokenizer.
        text: The text.
        literal: Places of control tokens that stand in a user's text, and are therefore no control tokens.
    """
    if not text:
        return [], []
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, spans = found["input_ids"], without_gaps(found["offset_mapping"])
    if not literal:
        return ids, spans
    known = controls_of(tokenizer).ids
    kept_ids: list[int] = []
    kept_spans: list[Span] = []
    for token, (start, end) in zip(ids, spans, strict=True):
        if token in known and any(first < end and start < last for first, last in literal):
            inner = inner_ids(tokenizer, text[start:end])
            kept_ids += inner
            kept_spans += [(start, end)] * len(inner)
        else:
            kept_ids.append(token)
            kept_spans.append((start, end))
    return kept_ids, kept_spans


def without_gaps(offsets: Iterable[Sequence[int]], last: int = 0) -> list[Span]:
    """Places of tokens, where byte-level tokenizers leave blanks out: a blank belongs to the token that it begins; `last` is where they begin."""
    spans: list[Span] = []
    for start, end in offsets:
        if start > last:
            start = last
        spans.append((start, end))
        if end > last:
            last = end
    return spans


def inner_ids(tokenizer: Any, text: str) -> list[int]:
    """Ids of a text, without control tokens, in the middle of another: SentencePiece would put a blank before it where it stands alone."""
    known = controls_of(tokenizer).ids
    if (
        known.intersection(text_ids(tokenizer, text)) and len(text) > 1
    ):  # a control token that the tokenizer calls ordinary
        return [*inner_ids(tokenizer, text[:1]), *inner_ids(tokenizer, text[1:])]
    for before in ("\n", "a", ")", "\u4e00"):  # one of them makes no token together with the text's beginning
        found = tokenizer(
            before + text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
        )
        places = without_gaps(found["offset_mapping"])
        first = next((index for index, (start, _) in enumerate(places) if start >= len(before)), None)
        if first and places[first][0] == places[first - 1][1] == len(before):
            ids: list[int] = found["input_ids"][first:]
            return ids
    return text_ids(tokenizer, text)
