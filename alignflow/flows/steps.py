"""The steps of a run as data: name, stage, round, config, and where their inputs come from. No store, no Prefect, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel

from alignflow.data.catalogue import suggest
from alignflow.data.errors import RecipeError
from alignflow.data.step_names import base_of, matching

SECTIONS = {"init": "model", "prepare": "data"}
"""Recipe sections whose name differs from their step's, so that messages can use the name for `--set`."""


@dataclass(frozen=True)
class Link:
    """An input: the node that makes it, and the part of its payload that is used."""

    node: str
    part: str = ""


@dataclass(frozen=True)
class Node:
    """One step of a run.

    Attributes:
        name: Its name in the run.
        stage: The catalogue's stage that runs it.
        config: Its config.
        inputs: Name -> link of each input.
        round: Its round, from 1 on; 0 if the run has it once. The name ends with it: `align.2`.
    """

    name: str
    stage: str
    config: BaseModel
    inputs: dict[str, Link] = field(default_factory=dict)
    round: int = 0

    @property
    def base(self) -> str:
        """Its name without the round: its section of the recipe, and its deployment."""
        return base_of(self.name)


def section_of(name: str) -> str:
    """The section of a recipe that configures a step and all its rounds."""
    base = base_of(name)
    return SECTIONS.get(base, base)


def named_steps(steps: Sequence[Node], name: str) -> list[str]:
    """The steps of a selection: the one with this name, else all its rounds; raises RecipeError with the nearest name."""
    names = [node.name for node in steps]
    if found := matching(names, name):
        return found
    raise RecipeError(f"the recipe has no step {name!r}", where="selection", do=suggest(name, names))


def upstream(steps: Sequence[Node], name: str) -> set[str]:
    """The names of all nodes that `name` depends on."""
    by_name = {node.name: node for node in steps}
    found: set[str] = set()
    queue = [name]
    while queue:
        for link in by_name[queue.pop()].inputs.values():
            if link.node not in found:
                found.add(link.node)
                queue.append(link.node)
    return found


def downstream(steps: Sequence[Node], name: str) -> set[str]:
    """The names of all nodes that depend on `name`."""
    return {node.name for node in steps if name in upstream(steps, node.name)}
