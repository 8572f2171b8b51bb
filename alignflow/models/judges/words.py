"""Words of a text for the principles: lower case, with endings cut if two forms should be equal."""

from __future__ import annotations

import re

from alignflow.models.judges.base import Candidate
from alignflow.models.judges.word_lists import STOP_WORDS

FUNCTION_WORDS = frozenset().union(*STOP_WORDS.values())
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


def words_of(text: str) -> list[str]:
    """The words of a text in lower case; an apostrophe or hyphen inside a word belongs to it."""
    return [word.replace("’", "'") for word in _WORD.findall(text.lower())]


def stem(word: str) -> str:
    """The word without a plural, -ed or -ing ending: enough to see `dogs` in `dog`."""
    for ending in ("'s", "ing", "es", "ed", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def question_of(candidate: Candidate) -> str:
    """The text of the last user turn; empty if there is none."""
    turns = [message["content"] for message in candidate.prompt if message["role"] == "user"]
    return turns[-1] if turns else ""


def question_words(candidate: Candidate) -> list[str]:
    """The words of the last user turn, in order."""
    return words_of(question_of(candidate))


def content_stems(words: list[str]) -> list[str]:
    """Stems of the content words: longer than two letters and not a function word of any known language."""
    return [stem(word) for word in words if len(word) > 2 and word not in FUNCTION_WORDS]
