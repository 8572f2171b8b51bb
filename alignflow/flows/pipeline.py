"""The pipeline: a Prefect flow that walks a recipe's steps and calls their tasks. Knows references, no tensors, no files."""

# Annotations are types here and not text: Prefect validates the flow's parameters by them.

import time
from collections.abc import Callable
from dataclasses import dataclass

from prefect import flow
from pydantic import BaseModel, ConfigDict, Field

from alignflow.data.artifacts import ArtifactRef
from alignflow.data.catalogue import suggest
from alignflow.data.configs.recipe import Recipe
from alignflow.data.errors import DamagedArtifactError, RecipeError
from alignflow.data.gates import GateRecord
from alignflow.flows.approval import ask_in_prefect, begun
from alignflow.flows.calls import Caller, why_missed
from alignflow.flows.gates import Gatekeeper
from alignflow.flows.graph import Node, downstream, upstream
from alignflow.tasks.call import StageCall
from alignflow.tasks.stage_task import run_as_task
from alignflow.tasks.store import ArtifactStore

MOST_REPAIRS = 3


class Selection(BaseModel):
    """Which part of a recipe a run is about; empty: all of it, and only what is missing.

    Attributes:
        only: Just this step; what it takes must be in the store.
        until: This step and what it needs.
        start: Do this step and everything after it again.
        force: Do these steps again; what follows runs again where their digest changed.
        approve: Go on past these gates, whatever they measure.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    only: str | None = Field(default=None, description="Just this step; what it takes must be in the store.")
    until: str | None = Field(default=None, description="This step and what it needs.")
    start: str | None = Field(default=None, description="Do this step and everything after it again.")
    force: tuple[str, ...] = Field(default=(), description="Do these steps again.")
    approve: tuple[str, ...] = Field(default=(), description="Go on past these gates, whatever they measure.")


class Outcome(BaseModel):
    """One line of the final table."""

    name: str
    ref: ArtifactRef
    ran: bool
    seconds: float
    why: str = ""


@dataclass
class Narrator:
    """Hears what a run does; the command line shows it."""

    starts: Callable[[StageCall, str], None] = lambda call, why: None
    ends: Callable[[Outcome], None] = lambda outcome: None
    repairs: Callable[[str, str], None] = lambda name, why: None
    gates: Callable[[GateRecord], None] = lambda record: None


@flow(name="pipeline", persist_result=False, validate_parameters=True)
def pipeline(recipe: Recipe, selection: Selection = Selection()) -> dict[str, ArtifactRef]:  # noqa: B008 (frozen)
    """Align a model as the recipe says; every stage that is in the store already is found there.

    Args:
        recipe: The whole recipe.
        selection: Which part of it, and what to do again.

    Returns:
        The reference that each step made, by its name.
    """
    outcomes = walk(recipe, selection, ArtifactStore(), Narrator())
    return {outcome.name: outcome.ref for outcome in outcomes}


def walk(recipe: Recipe, selection: Selection, store: ArtifactStore, narrator: Narrator) -> list[Outcome]:
    """Run the selected steps in order, inside a flow; a damaged input is set aside and made again, in the same run.

    Raises:
        RecipeError: the selection names no step, or `only` lacks an input.
        AlignflowError: whatever stopped a step, or a gate.
    """
    caller = Caller(recipe, store)
    keeper = Gatekeeper(recipe, selection.approve, store, narrator.gates, ask_in_prefect)
    chosen, forced = selected(caller.nodes, selection)
    for node in chosen:  # a name that is wrong in the last stage must not cost the ones before it
        caller.check(node)
    done: dict[str, Outcome] = {}
    repairs = 0
    while True:
        try:
            _pass(caller, chosen, forced - {name for name, outcome in done.items() if outcome.ran}, done, narrator, keeper)
            return list(done.values())
        except DamagedArtifactError as damage:
            repairs += 1
            if repairs > MOST_REPAIRS:
                raise
            store.quarantine(damage.key, damage.what)
            producer = next((name for name, outcome in done.items() if outcome.ref.key == damage.key), "an earlier step")
            narrator.repairs(producer, str(damage))


def _pass(
    caller: Caller, chosen: list[Node], forced: set[str], done: dict[str, Outcome], narrator: Narrator, keeper: Gatekeeper
) -> None:  # fmt: skip
    made: dict[str, ArtifactRef] = {}
    for node in chosen:
        call = caller.call(node, made)
        assert call is not None, f"{node.name} came before its inputs"
        outcome = _do(call, node.name in forced and not _made_since(call.key, begun(), caller.store), caller.store, narrator)
        made[node.name] = outcome.ref
        known = done.get(node.name)
        if known is None or outcome.ran:  # a second pass finds what the first one made: that stays `ran`
            done[node.name] = outcome
            narrator.ends(outcome)
        if not keeper.lets_on(node.name, outcome.ref):
            return


def _made_since(key: str, begun: str, store: ArtifactStore) -> bool:
    """Whether an earlier start of this very flow run made it: a run that a gate suspended must not do by force what it did."""
    found = store.find(key) if begun else None
    return found is not None and found.created >= begun


def _do(call: StageCall, force: bool, store: ArtifactStore, narrator: Narrator) -> Outcome:
    found = None if force else store.find(call.key)
    why = "" if found else ("forced" if force else why_missed(call, store))
    if not found:
        narrator.starts(call, why)
    started = time.monotonic()
    result = run_as_task(call, store, force)
    return Outcome(name=call.name, ref=result.ref, ran=result.ran, seconds=time.monotonic() - started, why=why)


def selected(steps: list[Node], selection: Selection) -> tuple[list[Node], set[str]]:
    """The steps to walk, and which of them to do again whatever the store has."""
    for name in (selection.only, selection.until, selection.start, *selection.force):
        check_step(steps, name)
    forced = set(selection.force)
    if selection.start:
        forced |= {selection.start, *downstream(steps, selection.start)}
    last = selection.only or selection.until
    chosen = steps if last is None else [node for node in steps if node.name == last or node.name in upstream(steps, last)]
    return chosen, forced


def check_step(steps: list[Node], name: str | None) -> None:
    """Raise RecipeError, with the nearest name, where a selection names no step of the recipe."""
    names = [node.name for node in steps]
    if name is not None and name not in names:
        raise RecipeError(f"the recipe has no step {name!r}", where="selection", do=suggest(name, names))


def missing_for(recipe: Recipe, name: str, store: ArtifactStore) -> list[str]:
    """The steps that `name` takes something from and that are not in the store, in order."""
    caller = Caller(recipe, store)
    check_step(caller.nodes, name)
    made: dict[str, ArtifactRef] = {}
    needed = upstream(caller.nodes, name)
    missing = []
    for node in caller.nodes:
        if node.name in needed:
            call = caller.call(node, made)
            manifest = store.find(call.key) if call else None
            if manifest:
                made[node.name] = manifest.ref()
            else:
                missing.append(node.name)
    return missing
