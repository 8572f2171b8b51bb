"""The walk over a recipe's steps: calls their tasks in order, with or without a Prefect flow. Handles references, no tensors, no files."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema

from alignflow.data.artifacts import ArtifactRef
from alignflow.data.configs.recipe import Recipe
from alignflow.data.errors import AlignflowError, DamagedArtifactError, UserError
from alignflow.data.gates import GateRecord
from alignflow.flows.calls import Caller
from alignflow.flows.forms import Fields, empty_unless_given
from alignflow.flows.gates import Gatekeeper, check_approved
from alignflow.flows.inputs import Inputs
from alignflow.flows.means import Means, means
from alignflow.flows.remarks import chosen_options, engine_lines, unused_lines
from alignflow.flows.requests import RunRequest, asked_for
from alignflow.flows.steps import Node, downstream, named_steps, upstream
from alignflow.flows.tracking import tracked
from alignflow.tasks.launch.call import StageCall
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.store.last_good_run import remember
from alignflow.tasks.store.pins import WORK, Pins, stored_paths, using
from alignflow.tasks.store.run_records import recording
from alignflow.tasks.trackers.base import check_tracker

MOST_REPAIRS = 3
REPORT = "report"


class Selection(Fields):
    """The part of a recipe to run; empty: all of it, but only what is missing."""

    only: str | SkipJsonSchema[None] = empty_unless_given(
        title="only", description="Only this step; its inputs must be in the store."
    )
    until: str | SkipJsonSchema[None] = empty_unless_given(title="until", description="This step and what it needs.")
    start: str | SkipJsonSchema[None] = empty_unless_given(
        title="from", description="Run this step and everything after it again."
    )
    force: tuple[str, ...] = Field(
        default=(),
        title="force",
        description="Run these steps again; later steps run again if a digest changed.",
    )
    approve: tuple[str, ...] = Field(
        default=(), title="approve", description="Ignore the results of these gates and go on."
    )


class Outcome(BaseModel):
    """One line of the final table."""

    name: str
    ref: ArtifactRef
    ran: bool
    seconds: float
    why: str = ""


@dataclass
class Narrator:
    """Listens to a run; the command line shows it."""

    starts: Callable[[StageCall, str], None] = lambda call, why: None
    ends: Callable[[Outcome], None] = lambda outcome: None
    repairs: Callable[[str, str], None] = lambda name, why: None
    gates: Callable[[GateRecord], None] = lambda record: None
    remarks: Callable[[str], None] = lambda text: None

    @classmethod
    def of(cls, *hearers: Narrator | Any) -> Narrator:
        """Passes everything on to several narrators."""

        def tell(event: str) -> Callable[..., None]:
            def tell_all(*what: Any) -> None:
                for hearer in hearers:
                    getattr(hearer, event)(*what)

            return tell_all

        return cls(*(tell(event.name) for event in fields(cls)))


def walk(
    recipe: Recipe,
    selection: Selection,
    store: ArtifactStore,
    narrator: Narrator,
    request: RunRequest | None = None,
) -> list[Outcome]:
    """Run the selected steps in order, as Prefect tasks inside a flow. A damaged input is quarantined and made again in the same run.

    `request` is the recipe's origin, for the record of the run.

    Raises:
        RecipeError: the selection names no step, or `only` lacks an input.
        AlignflowError: a step failed, or a gate stopped the run.
    """
    if request:
        request = replace(request, only=selection.only or "", until=selection.until or "")
    caller = Caller(recipe, store, request)
    chosen, forced = selected(caller.nodes, selection)
    return walk_nodes(caller, chosen, forced, narrator, approved=selection.approve)


def walk_nodes(
    caller: Caller,
    chosen: list[Node],
    forced: set[str],
    narrator: Narrator,
    inputs: Inputs | None = None,
    approved: tuple[str, ...] = (),
) -> list[Outcome]:
    """Run these steps in order; `forced` steps run even if the store has them, and steps in `inputs` use its artifacts.

    Gates are checked after each step; `approved` ones never stop the run.
    """
    inputs = inputs or Inputs()
    by = means()
    check_approved(caller.recipe, approved)
    check_tracker(caller.recipe.tracking)
    for node in chosen:  # a wrong name in the last stage must not waste the stages before it
        if node.name not in inputs.calls:
            caller.check(node)
    asked = caller.request.asked(caller.recipe) if caller.request else asked_for(caller.recipe)
    with (
        using(caller.store) as pins,
        recording(caller.store, asked, pins, by.flow_run()) as record,
        tracked(caller, record.record.id, narrator.remarks) as track,
    ):

        def ends(outcome: Outcome) -> None:
            if outcome.name not in inputs.foreign:
                record.step(outcome.name, outcome.ref, outcome.ran)
                track(outcome.name, outcome.ref, outcome.ran)
            narrator.ends(outcome)

        keeper = Gatekeeper(caller.recipe, approved, caller.store, narrator.gates, record.asking(by.ask))
        told = replace(narrator, ends=ends)
        walk = _Walk(caller, chosen, forced, told, inputs, keeper, by=by, pins=pins)
        _pin_what_is_there(walk)
        return _walk_all(walk)


def _pin_what_is_there(walk: _Walk) -> None:
    """Pin artifacts that the run will find and unfinished work that it will continue, until the whole run has ended."""
    made: dict[str, ArtifactRef] = {}
    walk.pins.add(*(call.key for call in walk.inputs.calls.values()), *(f"{WORK}{node.stage}" for node in walk.chosen))
    for node in walk.chosen:
        with contextlib.suppress(AlignflowError):  # the step itself reports what is wrong
            call = walk.inputs.calls.get(node.name) or walk.caller.call(node, made)
            if call is not None:
                walk.pins.add(call.key)
                if found := walk.caller.store.find(call.key):
                    made[node.name] = found.ref()


def _walk_all(walk: _Walk) -> list[Outcome]:
    """Walk over the steps until all are done; a damaged artifact is quarantined and made again in the next pass."""
    caller, forced = walk.caller, walk.forced
    done: dict[str, Outcome] = {}
    repairs = 0
    while True:
        try:
            ran = {name for name, outcome in done.items() if outcome.ran}
            _pass(replace(walk, forced=forced - ran), done)
            own = {name: outcome.ref.key for name, outcome in done.items() if name not in walk.inputs.foreign}
            remember(caller.store, caller.recipe.name, own)
            return list(done.values())
        except DamagedArtifactError as damage:
            repairs += 1
            if repairs > MOST_REPAIRS:
                raise
            caller.store.quarantine(damage.key, damage.what)
            producer = next(
                (name for name, outcome in done.items() if outcome.ref.key == damage.key), "an earlier step"
            )
            walk.narrator.repairs(producer, str(damage))


@dataclass
class _Walk:
    """The settings of a pass over the steps."""

    caller: Caller
    chosen: list[Node]
    forced: set[str]
    narrator: Narrator
    inputs: Inputs
    keeper: Gatekeeper
    by: Means = field(default_factory=means)
    pins: Pins = field(default_factory=Pins)


def _pass(walk: _Walk, done: dict[str, Outcome]) -> None:
    made: dict[str, ArtifactRef] = {}
    names = [node.name for node in walk.caller.nodes]
    for node in walk.chosen:
        call = walk.inputs.calls.get(node.name) or walk.caller.call(node, made)
        assert call is not None, f"{node.name} came before its inputs"
        outcome = _do(
            _told_what_was_found(call, done) if node.stage == REPORT else call,
            node.name in walk.forced and not _made_since(call.key, walk.by.begun(), walk.caller.store),
            walk,
        )
        made[node.name] = outcome.ref
        known = done.get(node.name)
        if known is None or outcome.ran:  # a second pass finds what the first made: that still counts as `ran`
            done[node.name] = outcome
            walk.narrator.ends(outcome)
            _remark(walk, outcome)
        if not walk.keeper.lets_on(node.name, outcome.ref, names):
            return


def _told_what_was_found(call: StageCall, done: dict[str, Outcome]) -> StageCall:
    """The call of a report with the steps that the run found in the store: its page says so, and the key does not depend on it."""
    found = [name for name, outcome in done.items() if not outcome.ran]
    return call.model_copy(update={"config": {**call.config, "found": found}})


def _made_since(key: str, begun: str, store: ArtifactStore) -> bool:
    """Whether an earlier start of this flow run made it: a run that a gate suspended must not force a step twice."""
    found = store.find(key) if begun else None
    return found is not None and found.created >= begun


def _remark(walk: _Walk, outcome: Outcome) -> None:
    """Report prepared data that the recipe does not use, and options that follow from its judge."""
    caller, lines = walk.caller, []
    if outcome.name == "prepare":
        metrics = caller.store.manifest(outcome.ref.key).metrics
        lines = [*unused_lines(caller.recipe, caller.nodes, metrics), *engine_lines(caller.recipe, caller.nodes)]
    elif outcome.name in ("align", "align.1"):
        lines = chosen_options(caller.recipe, caller.nodes)
    for line in lines:
        walk.narrator.remarks(line)


def _do(call: StageCall, force: bool, walk: _Walk) -> Outcome:
    store = walk.caller.store
    walk.pins.add(call.key, *stored_paths(store, call.config))
    found = None if force else store.find(call.key)
    if found is None and call.name in walk.inputs.foreign:
        raise UserError(f"{call.key} is damaged or gone", where=f"inputs.{call.name}", do=f"run {call.name} again")
    why = "" if found else ("forced" if force else walk.caller.reasons.why(call))
    if not found:
        walk.narrator.starts(call, why)
    started = time.monotonic()
    result = walk.by.do(call, store, force, found is not None)
    return Outcome(name=call.name, ref=result.ref, ran=result.ran, seconds=time.monotonic() - started, why=why)


def selected(steps: list[Node], selection: Selection) -> tuple[list[Node], set[str]]:
    """The steps to walk, and those of them to run even if the store has them."""
    last = selection.only or selection.until
    ends = named_steps(steps, last) if last else []
    forced = {found for name in selection.force for found in named_steps(steps, name)}
    for start in named_steps(steps, selection.start) if selection.start else ():
        forced |= {start, *downstream(steps, start)}
    wanted = {*ends, *(needed for end in ends for needed in upstream(steps, end))}
    return (steps if last is None else [node for node in steps if node.name in wanted]), forced


def missing_for(recipe: Recipe, name: str, store: ArtifactStore) -> list[str]:
    """The steps, in order, whose output `name` or its first round needs and the store does not have."""
    caller = Caller(recipe, store)
    wanted = set(named_steps(caller.nodes, name))
    made: dict[str, ArtifactRef] = {}
    between = set[str]().union(
        *(downstream(caller.nodes, step) for step in wanted)
    )  # made by the run itself, between rounds
    needed = set[str]().union(*(upstream(caller.nodes, step) for step in wanted)) - wanted - between
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


def refuse_missing(recipe: Recipe, selection: Selection, store: ArtifactStore, where: str) -> None:
    """Raise UserError if a run of `only` one step lacks that step's inputs."""
    if selection.only and (missing := missing_for(recipe, selection.only, store)):
        raise UserError(
            f"{selection.only} needs {', '.join(missing)}, which the store does not have",
            where=where,
            do=f"run without {where} first",
        )
