"""Checks, and which check a row gets: a right answer scores 1, a wrong or unreadable one 0, and without a check there is no score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from alignflow.data import catalogue
from alignflow.data.configs.verifiers import PerRowRewardOptions, VerifierConfig
from alignflow.models.rewards.episodes import Episode


@dataclass(frozen=True)
class Outcome:
    """The result of a check of one answer.

    Attributes:
        score: Between 0 and 1; None if the check could not be made.
        reason: Why it could not be made; empty if it could.
        parsed: False if the answer does not have the expected form, such as a number or JSON. Its score is 0.
    """

    score: float | None
    reason: str = ""
    parsed: bool = True


UNPARSED = Outcome(0.0, parsed=False)


def unchecked(reason: str) -> Outcome:
    """No score: the row and the recipe have nothing to check the answer against."""
    return Outcome(None, reason)


def verdict(right: bool) -> Outcome:
    """1 for a right answer, 0 for a wrong one."""
    return Outcome(float(right))


class Verifier(Protocol):
    """A pure function of an answer and its row. Constructed as `Class(options)`, which may read a file and raises RecipeError."""

    def check(self, episode: Episode) -> Outcome:
        """The verdict; never raises for the text of an answer or the content of a row."""


def reference_of(episode: Episode) -> str:
    """The row's reference; empty if it has none."""
    return episode.row.get("reference") or ""


NO_REFERENCE = "the row has no reference"


def bind_verifier(config: VerifierConfig, where: str) -> Verifier:
    """The check that a config names; raises RecipeError for an unknown name, or a wrong option or file."""
    row = catalogue.look_up(catalogue.VERIFIERS, config.name, f"{where}.name")
    made: Verifier = row.resolve()(catalogue.parse_options(row, config.options, f"{where}.options"))
    return made


@dataclass(frozen=True)
class Checker:
    """The check of each row.

    Attributes:
        named: Checks that a row may name; none: all rows get `otherwise`.
        otherwise: Check of a row that names none; None: such a row has no check.
    """

    named: Mapping[str, Verifier]
    otherwise: Verifier | None

    def check(self, episode: Episode) -> Outcome:
        """The verdict of the row's check."""
        name = name_of(episode.row) if self.named else None
        if name is None:
            return self.otherwise.check(episode) if self.otherwise else unchecked("the row names no verifier")
        if name not in self.named:
            known = "is not among those of the recipe" if name in catalogue.VERIFIERS else "does not exist"
            return unchecked(f"the row's verifier {name[:80]!r} {known}")
        return self.named[name].check(episode)


def name_of(row: Mapping[str, Any]) -> str | None:
    """The name of a row's check: its column `verifier`, otherwise `ifeval` if it has instructions; None: no check."""
    return row.get("verifier") or ("ifeval" if row.get("instructions") else None)


def checker_of(options: PerRowRewardOptions, where: str) -> Checker:
    """Resolve all checks of a config; raises RecipeError."""
    named = {
        config.name: bind_verifier(config, f"{where}.verifiers.{index}")
        for index, config in enumerate(options.verifiers)
    }
    return Checker(named, bind_verifier(options.otherwise, f"{where}.otherwise") if options.otherwise else None)
