"""The reference answer, word for word."""

from __future__ import annotations

import json
import re
import string
import unicodedata

from alignflow.data.configs.verifiers import ExactAnswerOptions
from alignflow.models.rewards.episodes import Episode
from alignflow.models.rewards.verifiers.base import NO_REFERENCE, UNPARSED, Outcome, reference_of, unchecked, verdict
from alignflow.models.rewards.verifiers.marks import shown_answers

_ENDS = string.punctuation + string.whitespace
_NEGATIVE = re.compile(r"[^\w-]*[-\u2212][$\u20ac\u00a3\u00a5]?\.?\d")
"""A number with a minus before it, which is not punctuation."""


class ExactAnswer:
    """1 if the answer is the reference in normal form (Unicode NFC, single spaces), or one of several references."""

    def __init__(self, options: ExactAnswerOptions):
        self._options = options

    def check(self, episode: Episode) -> Outcome:
        """Compare; a reference that is a worked solution is read in the same way."""
        if not (reference := reference_of(episode)):
            return unchecked(NO_REFERENCE)
        references = _listed(reference) if self._options.several else [reference]
        if references is None:
            return unchecked("the row's reference is no JSON list of texts")
        wanted = {self._normal(self._shown(text) or text) for text in references}
        shown = self._shown(episode.text)
        return UNPARSED if shown is None else verdict(self._normal(shown) in wanted)

    def _shown(self, text: str) -> str | None:
        """The part of a text that is the answer; None if there is none."""
        if self._options.answer_from == "whole":
            return text if text.strip() else None
        if self._options.answer_from == "last_line":
            return next((line for line in reversed(text.split("\n")) if line.strip()), None)
        return next((shown for _, shown in shown_answers(text)), None)

    def _normal(self, text: str) -> str:
        text = unicodedata.normalize("NFC", text)
        text = text.casefold() if self._options.ignore_case else text
        if not self._options.ignore_punctuation:
            return text.strip()
        # Keep an answer of only punctuation, such as "?", which would otherwise be empty.
        spaced = " ".join(text.split())
        bare = spaced.strip(_ENDS) or spaced
        return "-" + bare.lstrip("\u2212") if _NEGATIVE.match(spaced) else bare


def _listed(reference: str) -> list[str] | None:
    try:
        found = json.loads(reference)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) and found and all(isinstance(text, str) for text in found) else None
