"""The steps of a recipe as they are found, one after the other: what all parts of the graph add to, and look things up in. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from pydantic import BaseModel

from alignflow.data.configs.generation import LabelConfig
from alignflow.data.configs.overriding import overridden
from alignflow.data.configs.recipe import Recipe
from alignflow.data.step_names import matching, step_name
from alignflow.flows.method_inputs import LABELLED, mixed_kinds, needed_inputs
from alignflow.flows.rounds import Plan, planned_rounds
from alignflow.flows.step_configs import seeded
from alignflow.flows.steps import Link, Node

Config = TypeVar("Config", bound=BaseModel)


class StepList:
    """The steps that are there, and what the next ones need to know.

    Attributes:
        recipe: What is asked for.
        made: Name -> step, each after those that it takes from.
        policy: The step whose model is aligned.
        supervised_policy: The one whose model the result is compared with.
        aligned: The one whose model is evaluated: the last one that aligns or merges; empty while there is none.
        reward: The reward model; empty while there is none.
        round: Of the steps that are added now; 0 outside of a loop.
        rounds: How the method samples, labels and trains in rounds; None where it learns once.
        labelled: The config of the steps `label`; None while there is none.
        needs: Optional inputs that the method works on.
        mixes: Whether labels of people are mixed with the judge's.
    """

    def __init__(self, recipe: Recipe):
        self.recipe = recipe
        self.made: dict[str, Node] = {}
        self.policy = ""
        self.supervised_policy = ""
        self.aligned = ""
        self.reward = ""
        self.round = 0
        self.rounds: Plan | None = planned_rounds(recipe)
        self.labelled: LabelConfig | None = None
        self.needs = needed_inputs(recipe)
        mix = recipe.label.mix if recipe.label is not None else "off"
        self.mixes = bool(recipe.data.preferences) and mix != "off" and not recipe.replace.label

    def add(self, base: str, stage: str, config: BaseModel, /, **inputs: Link | None) -> str:
        """Add a step of the round that is built now, with what the recipe overrides in it; returns its name."""
        linked = {input_name: link for input_name, link in inputs.items() if link is not None}
        name = step_name(base, self.round)
        own = self.own_config(base, seeded(config, self.recipe.seed))
        self.made[name] = Node(name, stage, own, linked, self.round)
        return name

    def own_config(self, base: str, config: Config) -> Config:
        """The config of a step of the round that is built now, with what the recipe overrides in it."""
        name = step_name(base, self.round)
        return overridden(config, self.recipe.rounds.overrides.get(name), name)

    def has(self, base: str) -> bool:
        """Whether there is a step of this name, or a round of it."""
        return bool(matching(self.made, base))

    def prepared(self, kinds: Sequence[str]) -> tuple[str, Link] | None:
        """Data of the recipe's own of one of these kinds: kind and link; the first kind goes before the others. None where there is none.

        Pairs that are mixed with the judge's are not the recipe's own any more: the step `label` gives them.
        """
        own = [
            kind for kind in kinds if getattr(self.recipe.data, kind, ()) and not (kind == "preferences" and self.mixes)
        ]
        return (own[0], Link("prepare", own[0])) if own else None

    def labels(self, kinds: Sequence[str]) -> tuple[str, Link] | None:
        """What the step `label` of this round makes that is of one of these kinds, outside of rounds that of the first; None where the
        recipe labels nothing.

        Labels of people are pairs, so that where they are mixed in, pairs are what it gives.
        """
        own = step_name("label", self.round)
        place = own if own in self.made else next(iter(matching(self.made, "label")), "")
        made = [kind for kind in kinds if kind in LABELLED] if place else []
        if made and self.mixes:
            made = mixed_kinds(made)
        return (made[0], Link(place, made[0])) if made else None
