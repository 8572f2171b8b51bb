"""The growing list of a recipe's steps, to which all parts of the graph add and in which they look things up. Pure."""

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
    """The steps so far, and what later steps need to know.

    Attributes:
        recipe: The recipe.
        made: Name -> step, each after its inputs.
        policy: The step whose model is aligned.
        supervised_policy: The step whose model the result is compared with.
        aligned: The step whose model is evaluated: the last that aligns or merges; empty while there is none.
        reward: The step of the reward model; empty while there is none.
        round: Round of the steps that are being added; 0 outside of a loop.
        rounds: Rounds of sample, label and train; None if the method learns once.
        labelled: The config of the steps `label`; None while there is none.
        needs: Optional inputs that the method uses.
        mixes: Whether people's labels are mixed with the judge's.
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
        """Add a step of the current round, with the recipe's overrides; returns its name."""
        linked = {input_name: link for input_name, link in inputs.items() if link is not None}
        name = step_name(base, self.round)
        own = self.own_config(base, seeded(config, self.recipe.seed))
        self.made[name] = Node(name, stage, own, linked, self.round)
        return name

    def own_config(self, base: str, config: Config) -> Config:
        """The config of a step of the current round, with the recipe's overrides."""
        name = step_name(base, self.round)
        return overridden(config, self.recipe.rounds.overrides.get(name), name)

    def has(self, base: str) -> bool:
        """Whether there is a step of this name or a round of it."""
        return bool(matching(self.made, base))

    def prepared(self, kinds: Sequence[str]) -> tuple[str, Link] | None:
        """The recipe's own data of one of these kinds, as kind and link; earlier kinds take precedence. None if there is none.

        Pairs that are mixed with the judge's do not count: they come from the step `label`.
        """
        own = [
            kind for kind in kinds if getattr(self.recipe.data, kind, ()) and not (kind == "preferences" and self.mixes)
        ]
        return (own[0], Link("prepare", own[0])) if own else None

    def labels(self, kinds: Sequence[str]) -> tuple[str, Link] | None:
        """The output of this round's step `label` of one of these kinds; outside of rounds, that of the first round. None if the
        recipe labels nothing.

        People's labels are pairs, so if they are mixed in, the output is pairs.
        """
        own = step_name("label", self.round)
        place = own if own in self.made else next(iter(matching(self.made, "label")), "")
        made = [kind for kind in kinds if kind in LABELLED] if place else []
        if made and self.mixes:
            made = mixed_kinds(made)
        return (made[0], Link(place, made[0])) if made else None
