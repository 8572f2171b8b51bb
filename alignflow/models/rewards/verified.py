"""Checks as rewards: one check for all rows, or one per row. An answer that cannot be checked has no score; an unreadable answer scores 0."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from alignflow.data.configs.verifiers import PerRowRewardOptions, VerifierRewardOptions
from alignflow.data.run import Run
from alignflow.models.rewards.episodes import Episode
from alignflow.models.rewards.reward_inputs import RewardInputs
from alignflow.models.rewards.verifiers.base import Checker, Outcome, bind_verifier, checker_of

WHERE = "align.options.rewards"
MOST_REASONS = 5
"""Most reasons to show, since a reason may quote a row; all are counted."""


class CheckedSource:
    """Scores of a checker, and how many answers could not be read or not be checked."""

    def __init__(self, name: str, checker: Checker, run: Run):
        self.name, self._checker, self._run = name, checker, run
        self._said: set[str] = set()
        self._last: list[Outcome] = []

    def score(self, episodes: Sequence[Episode]) -> list[float | None]:
        """Between 0 and 1; None if the check cannot be made."""
        self._last = [self._checker.check(episode) for episode in episodes]
        self._say(episodes)
        return [outcome.score for outcome in self._last]

    def details(self, episodes: Sequence[Episode]) -> dict[str, list[float | None]]:
        """Shares of answers: `unparsed`, without the expected form; `unchecked`, of rows without anything to check against."""
        unchecked = [outcome.score is None for outcome in self._last]
        unparsed = [
            None if lost else float(not outcome.parsed) for outcome, lost in zip(self._last, unchecked, strict=True)
        ]
        return {"unparsed": unparsed, "unchecked": [float(lost) for lost in unchecked]}

    def close(self) -> None:
        """Nothing to free."""

    def _say(self, episodes: Sequence[Episode]) -> None:
        first = {
            outcome.reason: episode.row["id"]
            for outcome, episode in reversed(list(zip(self._last, episodes, strict=True)))
        }
        for reason, count in Counter(outcome.reason for outcome in self._last if outcome.score is None).items():
            if reason not in self._said and len(self._said) < MOST_REASONS:
                self._said.add(reason)
                self._run.warn(
                    f"{self.name}: {count} of {len(episodes)} answers cannot be checked: {reason} (row {first[reason]}); such answers "
                    f"have no score and are counted in objective/scores/{self.name}/unchecked"
                )


class VerifierSource(CheckedSource):
    """One check for all rows."""

    def __init__(self, options: VerifierRewardOptions, models: RewardInputs, run: Run):
        super().__init__(options.verifier.name, Checker({}, bind_verifier(options.verifier, WHERE)), run)

    @staticmethod
    def check(options: VerifierRewardOptions) -> None:
        """Resolve the check."""
        bind_verifier(options.verifier, WHERE)


class PerRowSource(CheckedSource):
    """The check that each row names."""

    def __init__(self, options: PerRowRewardOptions, models: RewardInputs, run: Run):
        super().__init__("per_row", checker_of(options, WHERE), run)

    @staticmethod
    def check(options: PerRowRewardOptions) -> None:
        """Resolve all checks."""
        checker_of(options, WHERE)
