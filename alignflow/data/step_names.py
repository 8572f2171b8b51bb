"""Names of a run's steps. A step that a run does several times has its round in its name: `align.2` is the second round of `align`."""

from __future__ import annotations

import re
from collections.abc import Iterable

MOST_ROUNDS = 1000
RESULTS = ("merge", "align", "reward", "sft")
"""Steps whose models a run is made for, the best one first."""
ROUND = re.compile(r"(?P<base>.+)\.(?P<round>[1-9][0-9]*)")


def step_name(base: str, round: int = 0) -> str:
    """The name of a step; round 0: the run does it once."""
    return f"{base}.{round}" if round else base


def part_name(round: int) -> str:
    """The part of the payload of `split` that a round reads."""
    return step_name("part", round)


def base_and_round(name: str) -> tuple[str, int]:
    """A name without its round, and the round; 0 where the name has none."""
    found = ROUND.fullmatch(name)
    return (found["base"], int(found["round"])) if found else (name, 0)


def base_of(name: str) -> str:
    """The name without its round: what sections of a recipe, deployments and tables of metrics are called."""
    return base_and_round(name)[0]


def matching(names: Iterable[str], wanted: str) -> list[str]:
    """The names that `wanted` means, in their order: the step of this name, else all rounds of it; none where there is neither."""
    known = list(names)
    return [wanted] if wanted in known else [name for name in known if base_of(name) == wanted]
