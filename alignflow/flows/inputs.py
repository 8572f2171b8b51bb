"""Finds the inputs of a stage that runs by itself: the recipe's own artifacts, the latest ones, or named ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from alignflow.data import catalogue
from alignflow.data.artifacts import ArtifactRef, Manifest
from alignflow.data.configs.recipe import Recipe
from alignflow.data.errors import UserError
from alignflow.data.run import Runtime
from alignflow.data.step_names import base_of
from alignflow.flows.calls import Caller
from alignflow.flows.steps import Link, Node, downstream, named_steps, section_of, upstream
from alignflow.tasks.launch.call import StageCall
from alignflow.tasks.store.artifact_names import step_of_run
from alignflow.tasks.store.last_good_run import latest


@dataclass
class Inputs:
    """The inputs of some steps from steps that do not run.

    Attributes:
        calls: Step -> the call whose artifact is used for it.
        foreign: Steps whose artifact does not have the recipe's current key: it can be found but not made again.
        notes: One line per step, for the log and the summary.
    """

    calls: dict[str, StageCall] = field(default_factory=dict)
    foreign: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    def take(self, step: str, manifest: Manifest, why: str) -> None:
        """Use an artifact for a step, whatever the recipe says."""
        self.calls[step] = call_of(step, manifest)
        self.foreign.add(step)
        self.notes.append(f"{step}: {manifest.key}, {why}")


def steps_of(caller: Caller, stage: str, follow: bool) -> set[str]:
    """The steps that run if a stage runs by itself: the stage, its helper steps, and with `follow` the steps after it.

    `stage` means all its rounds, unless it names one. A step is a helper of another if no section of the recipe configures it: the
    reference's log-probabilities for `align`. The member models of a `reward` ensemble are helpers too.
    """
    nodes = {node.name: node for node in caller.nodes}
    wanted = set(named_steps(caller.nodes, stage))
    wanted = wanted.union(*(downstream(caller.nodes, name) for name in wanted)) if follow else wanted
    served = [name for name in wanted if name != "report"]  # a report only reads
    for name in served:
        links = {link.node for link in nodes[name].inputs.values()}
        serving = {each for each in links if section_of(each) not in Recipe.model_fields or base_of(each) in wanted}
        served += sorted(serving - {*served})
    return wanted | {*served}


def find_inputs(caller: Caller, steps: set[str], stage: str, named: Mapping[str, str]) -> Inputs:
    """Find the inputs of `steps` from the other steps of the recipe.

    An input is the artifact that the user named for it; else the current artifact of the recipe's own step, by its key; else the
    one that the latest good run of a recipe of this name used.

    Args:
        caller: The recipe on its store.
        steps: The steps that will run.
        stage: The stage of `named`, in all its rounds unless it names one.
        named: Input of that stage -> a step, a run, the start of a key or digest, or a path.

    Raises:
        UserError: an input does not exist, so its stage has to run first; or a name matches no artifact, or one of the wrong kind.
    """
    nodes = {node.name: node for node in caller.nodes}
    needed: set[str] = set().union(*(upstream(caller.nodes, name) for name in steps)) - steps
    found, made = Inputs(), dict[str, ArtifactRef]()
    for node in caller.nodes:
        if node.name in needed:
            _find(node, caller, found, made)
        elif node.name in steps and (call := _call(node, caller, made)) and (known := caller.store.find(call.key)):
            made[node.name] = (
                known.ref()
            )  # an earlier round, which is needed, used it too: its key identifies the artifact
    given: dict[str, str] = {}
    for name, text in named.items():
        link = _outer_link(nodes, named_steps(caller.nodes, stage), name, steps)
        manifest, step = _named(nodes, link, name, text, caller), link.node
        if given.setdefault(step, manifest.key) != manifest.key:
            raise UserError(
                f"{name} comes from {step}, for which you named another artifact",
                where=f"inputs.{name}",
                do="name the same artifact for both",
            )
        found.take(step, manifest, f"named for {name}")
    for node in caller.nodes:
        for name, link in node.inputs.items() if node.name in steps else ():
            if link.node not in steps and link.node not in found.calls:
                raise UserError(
                    f"{node.name} takes {name} from {link.node}, but the store has none of this recipe",
                    where=f"inputs.{name}",
                    do=f"run {link.node} first, or name an artifact for it (`alignflow list` shows them)",
                )
    return found


def _find(node: Node, caller: Caller, found: Inputs, made: dict[str, ArtifactRef]) -> None:
    """Use the artifact of a step: the one under its key, or the one of the latest good run."""
    call = _call(node, caller, made)
    manifest = caller.store.find(call.key) if call else None
    if call and manifest:
        found.calls[node.name] = call
        found.notes.append(f"{node.name}: {manifest.key}, as the recipe says")
    elif manifest := latest(caller.store, caller.recipe.name, node.name):
        run = f"from the latest good run of {caller.recipe.name!r} ({manifest.created[:19]} UTC)"
        found.take(node.name, manifest, f"{run}; the artifact of the current recipe is not in the store")
    if manifest:
        made[node.name] = manifest.ref()


def _call(node: Node, caller: Caller, made: Mapping[str, ArtifactRef]) -> StageCall | None:
    try:
        return caller.call(node, made)
    except UserError:  # its sources are gone or lack a part, which does not matter if an earlier result exists
        return None


def _outer_link(nodes: Mapping[str, Node], rounds: list[str], name: str, steps: set[str]) -> Link:
    """The input `name` of these rounds of a stage that no step of the run makes; raises UserError unless there is exactly one."""
    links = [nodes[each].inputs[name] for each in rounds if name in nodes[each].inputs]
    if not links:
        raise UserError(
            f"{rounds[0]} takes no {name!r} in this recipe",
            where=f"inputs.{name}",
            do=catalogue.suggest(name, nodes[rounds[0]].inputs),
        )
    outer = list(dict.fromkeys(link for link in links if link.node not in steps)) or links[:1]
    if len(outer) > 1:
        taken = ", ".join(link.node + (f"'s {link.part}" if link.part else "") for link in outer)
        raise UserError(
            f"the rounds {', '.join(rounds)} take {name} from {taken}",
            where=f"inputs.{name}",
            do="run a single round, and name an artifact for it",
        )
    return outer[0]


def _named(nodes: Mapping[str, Node], link: Link, name: str, text: str, caller: Caller) -> Manifest:
    """The artifact that the user named for an input; the name of a run means its artifact of the input's step. Raises UserError unless it is
    of the input's kind."""
    kind = catalogue.STAGES[nodes[link.node].stage].makes
    manifest = step_of_run(caller.store, text, link.node) or caller.store.resolve(text, (kind,))
    if manifest.kind != kind or not _has(manifest, link):
        raise UserError(
            f"{manifest.key[:24]} is a {manifest.kind} of the stage {manifest.stage}, not a {kind}{f' with {link.part}' if link.part else ''}",
            where=f"inputs.{name}",
            do=f"`alignflow list {link.node}` shows that stage's artifacts",
        )
    return manifest


def _has(manifest: Manifest, link: Link) -> bool:
    return not link.part or link.part in manifest.parts


def call_of(step: str, manifest: Manifest) -> StageCall:
    """The call that made an artifact, under the name of a step, so that its task finds the artifact."""
    return StageCall(
        name=step,
        stage=manifest.stage,
        config=manifest.config,
        inputs=manifest.inputs,
        runtime=Runtime.model_validate(manifest.runtime),
        key=manifest.key,
        components=manifest.components,
    )
