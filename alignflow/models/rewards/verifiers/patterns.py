"""A pattern that the answer must match. A model may learn to write slow texts, so a search has a time limit."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import regex

from alignflow.data.configs.verifiers import RegularExpressionOptions
from alignflow.data.errors import RecipeError
from alignflow.models.rewards.episodes import Episode
from alignflow.models.rewards.verifiers.base import NO_REFERENCE, UNPARSED, Outcome, reference_of, unchecked, verdict


class RegularExpression:
    """1 if the answer matches. The pattern is the recipe's or the row's.

    A search that takes longer than the limit gives no score: neither answer nor pattern was found wrong.
    """

    def __init__(self, options: RegularExpressionOptions):
        self._options = options
        self._flags = regex.IGNORECASE if options.ignore_case else 0
        if options.pattern:
            try:
                compiled(options.pattern, self._flags)
            except regex.error as error:
                raise RecipeError(
                    f"not a regular expression: {error}", where="verifier.options.pattern", do="correct the pattern"
                ) from None

    def check(self, episode: Episode) -> Outcome:
        """Search the answer."""
        options, text = self._options, episode.text
        if not (pattern := options.pattern or reference_of(episode)):
            return unchecked(NO_REFERENCE)
        if len(text) > options.max_characters:
            return UNPARSED
        try:
            wanted = compiled(pattern, self._flags)
            found = (
                wanted.fullmatch(text.strip(), timeout=options.timeout_s)
                if options.match == "full"
                else wanted.search(text, timeout=options.timeout_s)
            )
        except (regex.error, RecursionError):
            return unchecked(f"the row's reference is no regular expression: {pattern[:60]!r}")
        except MemoryError:  # a recursive pattern, such as (?R)
            return unchecked(f"a search took too much memory: {pattern[:60]!r}")
        except TimeoutError:
            return unchecked(f"a search took longer than {options.timeout_s:g} s: {pattern[:60]!r}")
        return verdict((found is not None) == (options.expect == "match"))


@lru_cache(maxsize=1000)
def compiled(pattern: str, flags: int = 0) -> Any:
    """A pattern, compiled once; raises regex.error."""
    return regex.compile(pattern, flags)
