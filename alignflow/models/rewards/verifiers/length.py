"""A length within bounds."""

from __future__ import annotations

from alignflow.data.configs.verifiers import LengthOptions
from alignflow.models.rewards.episodes import Episode
from alignflow.models.rewards.verifiers.base import Outcome, unchecked


class Length:
    """1 within the bounds; outside of them the score falls to 0, at once or linearly."""

    def __init__(self, options: LengthOptions):
        self._options = options

    def check(self, episode: Episode) -> Outcome:
        """Count, and compare."""
        count = self._count(episode)
        if count is None:
            return unchecked("nobody counted the answer's tokens")
        return Outcome(length_score(count, self._options))

    def _count(self, episode: Episode) -> int | None:
        if self._options.unit == "tokens":
            return episode.tokens
        return len(episode.text.split()) if self._options.unit == "words" else len(episode.text)


def length_score(count: int, options: LengthOptions) -> float:
    """1 within the bounds, otherwise max(0, 1 - distance / falls_over); 0 if falls_over is 0."""
    most = count if options.most is None else options.most
    distance = max(options.least - count, count - most, 0)
    if not distance:
        return 1.0
    return max(0.0, 1.0 - distance / options.falls_over) if options.falls_over else 0.0
