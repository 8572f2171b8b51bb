"""How long a text of so many tokens can be at most, in bytes: a longer one need not be tokenised to be known as too long.

Tokenising 50 MB takes most of a minute and gigabytes. A text has at least as many tokens as its bytes divided by those of
the longest token, but only where the tokenizer loses none of the text on the way. That is read off the parts of the
tokenizer. If we cannot say this of a part, there is no bound, and every text is tokenised.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

COMPOSED = 12
"""By how much Unicode's normal forms can shrink a text: 4 bytes to 1 (compatibility), and up to 3 code points to 1 (composition)."""


def longest_bytes(tokenizer: Any, tokens: int) -> int | None:
    """The bytes that a text of `tokens` tokens can have at most in UTF-8; None where the tokenizer's parts do not say."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    parts = json.loads(backend.to_str())
    shrinks = _normalizer(parts.get("normalizer"))
    if shrinks is None or not _keeps_all(parts.get("pre_tokenizer")) or not _covers_all(parts["model"]):
        return None
    if any((token["lstrip"] or token["rstrip"]) and not token["special"] for token in parts.get("added_tokens", ())):
        return None  # such a token swallows any number of spaces
    return tokens * shrinks * max((len(token.encode("utf-8", "replace")) for token in tokenizer.get_vocab()), default=1)


def _normalizer(part: Mapping[str, Any] | None) -> int | None:
    """By what factor a normalizer can shrink a text at most; None for any."""
    if part is None or part["type"] in ("Prepend", "ByteLevel"):
        return 1
    if part["type"] in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase"):
        return COMPOSED
    if part["type"] == "Replace":
        text = part["pattern"].get("String")
        return 1 if text and len(part["content"].encode()) >= len(text.encode()) else None
    if part["type"] == "Sequence":
        whole = 1
        for inner in part["normalizers"]:
            factor = _normalizer(inner)
            if factor is None:
                return None
            whole *= factor
        return whole
    return None


def _keeps_all(part: Mapping[str, Any] | None) -> bool:
    """Whether a pre-tokenizer throws no part of the text away."""
    if part is None or part["type"] in ("ByteLevel", "Metaspace", "Digits", "UnicodeScripts"):
        return True
    if part["type"] in ("Split", "Punctuation"):
        return bool(part["behavior"] != "Removed")
    return part["type"] == "Sequence" and all(_keeps_all(inner) for inner in part["pretokenizers"])


def _covers_all(model: Mapping[str, Any]) -> bool:
    """Whether every byte of a text becomes part of a token, and an unknown token stands for one character."""
    vocabulary = model.get("vocab") or {}
    names = set(vocabulary) if isinstance(vocabulary, Mapping) else {name for name, _ in vocabulary}
    if model.get("byte_fallback") and {f"<0x{byte:02X}>" for byte in range(256)} <= names:
        return True
    if model.get("type", "BPE") != "BPE":
        return False
    if set(_byte_level_alphabet()) <= names:
        return True
    return model.get("unk_token") in names and not model.get("fuse_unk")


def _byte_level_alphabet() -> list[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return ByteLevel.alphabet()
