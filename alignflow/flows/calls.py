"""Turns nodes into calls: computes the key of a step as soon as all its inputs are known. No Prefect, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alignflow.data import catalogue
from alignflow.data.artifacts import ArtifactRef
from alignflow.data.configs.recipe import Recipe
from alignflow.data.errors import UserError
from alignflow.flows.contexts import context_length, refuse_no_room
from alignflow.flows.generators import with_generators, with_keys
from alignflow.flows.graph import nodes
from alignflow.flows.reasons import Reasons
from alignflow.flows.steps import Node
from alignflow.tasks.keys.content import ContentDigests
from alignflow.tasks.keys.key import stage_key
from alignflow.tasks.launch.call import StageCall
from alignflow.tasks.launch.installed import check_packages
from alignflow.tasks.launch.precision import recipe_width
from alignflow.tasks.launch.runtime import resolve_runtime, sharding
from alignflow.tasks.store.artifact_store import ArtifactStore

if TYPE_CHECKING:
    from alignflow.flows.requests import RunRequest


class Caller:
    """Makes the calls of one recipe on one store.

    Args:
        recipe: The recipe.
        store: The store.
        request: The recipe's file and settings, for the record of a run; None if unknown.
        gpus: Number of GPUs to assume; None: those of this machine.
    """

    def __init__(
        self, recipe: Recipe, store: ArtifactStore, request: RunRequest | None = None, gpus: int | None = None
    ):
        self.recipe, self.store, self.request = recipe, store, request
        self.nodes = nodes(recipe)
        self.reasons = Reasons(store, recipe.name)
        width = recipe_width(recipe)
        self.runtime = resolve_runtime(recipe.engine, width, gpus)
        self._alone = resolve_runtime(
            recipe.engine.model_copy(update={"processes": 1, "nodes": 1, "rendezvous": None}), width, gpus
        )
        self._context = context_length(recipe)
        self._contents = ContentDigests(store.root, shared=store.sharing is not None)

    def call(self, node: Node, made: Mapping[str, ArtifactRef]) -> StageCall | None:
        """The call of a node, or None while one of its inputs is missing; raises UserError for a missing path."""
        if any(link.node not in made for link in node.inputs.values()):
            return None
        inputs = {name: self._part(made[link.node], link.part) for name, link in node.inputs.items()}
        stage = catalogue.STAGES[node.stage]
        runtime = self.runtime if stage.trains or stage.scores else self._alone
        config = with_generators(node.config, self.recipe.engine.generator, runtime.device)
        key, components = stage_key(node.stage, config, inputs, runtime, self._contents)
        return StageCall(
            name=node.name,
            stage=node.stage,
            config=config.model_dump(mode="json"),
            inputs=inputs,
            runtime=with_keys(runtime, config),
            key=key,
            components=components,
            timeout_s=self.recipe.engine.timeout_s,
            sharding=sharding(node.stage, config, self.recipe.engine),
        )

    def check(self, node: Node) -> None:
        """Check every name, path and package of a node's config before anything runs. Raises UserError if one is missing,
        or if the context has no room for a prompt."""
        check_packages(node.config)
        config = with_generators(node.config, self.recipe.engine.generator, self.runtime.device)
        stage_key(node.stage, config, {}, self.runtime, self._contents)
        refuse_no_room(node, self.recipe, self._context)

    def _part(self, ref: ArtifactRef, part: str) -> ArtifactRef:
        if not part:
            return ref
        manifest = self.store.manifest(ref.key)
        if part not in manifest.parts:
            raise UserError(
                f"the data has no {part}",
                where=ref.key,
                do=f"its parts: {', '.join(sorted(manifest.parts))}; set the sources of {part} in the recipe's data",
            )
        return manifest.ref(part)


@dataclass(frozen=True)
class Step:
    """What a run would do with a step.

    Attributes:
        name: The node.
        state: run, cached, after, or blocked.
        why: For `run`: the difference from the last run of this recipe or from the nearest artifact. For `after`: the node. For `blocked`: the reason.
        key: Its key, if known.
    """

    name: str
    state: str
    why: str = ""
    key: str = ""


def plan(recipe: Recipe, store: ArtifactStore, gpus: int | None = None) -> list[Step]:
    """What a run of the recipe would do now, with `gpus` GPUs; raises RecipeError if the recipe is wrong."""
    caller = Caller(recipe, store, gpus=gpus)
    made: dict[str, ArtifactRef] = {}
    steps: dict[str, Step] = {}
    for node in caller.nodes:
        steps[node.name] = _step(node, caller, made, steps)
    return list(steps.values())


def _step(node: Node, caller: Caller, made: dict[str, ArtifactRef], steps: Mapping[str, Step]) -> Step:
    needed = {link.node for link in node.inputs.values()}
    waiting = [name for name in steps if name in needed and name not in made]  # in the order of the run
    blocked = [name for name in waiting if steps[name].state == "blocked"]
    if blocked:
        return Step(node.name, "blocked", f"by {blocked[0]}")
    try:
        caller.check(node)
        if waiting:
            return Step(node.name, "after", waiting[-1])
        call = caller.call(node, made)
    except UserError as error:
        return Step(node.name, "blocked", "; ".join(line.strip() for line in str(error).splitlines()))
    assert call is not None
    if manifest := caller.store.find(call.key):
        made[node.name] = manifest.ref()
        return Step(node.name, "cached", key=call.key)
    return Step(node.name, "run", caller.reasons.why(call), call.key)
