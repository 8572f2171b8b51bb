"""The flows that a server runs: the whole pipeline, a sweep over methods, one flow per stage, preference data on demand.

Their parameters are the fields of the server's form and of its API. What the schema cannot express is
checked when the flow starts, before any stage. A mistake ends it as Failed, with the message of the command line.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from prefect import Flow, flow, get_run_logger
from prefect.runtime import flow_run
from prefect.states import Failed, State
from pydantic import Field, create_model
from pydantic.json_schema import SkipJsonSchema

from alignflow.data import catalogue
from alignflow.data.artifacts import ArtifactRef
from alignflow.data.configs.loading import parse_setting
from alignflow.data.errors import AlignflowError, StageError
from alignflow.data.step_names import MOST_ROUNDS, step_name
from alignflow.flows.calls import Caller
from alignflow.flows.forms import STANDS_IN, Form, empty_unless_given, pipeline_form, stage_form, sweep_form
from alignflow.flows.inputs import find_inputs, steps_of
from alignflow.flows.pipeline import Outcome, Selection, refuse_missing, selected, walk, walk_nodes
from alignflow.flows.preference_data import Order, TableName, check_order, preference_form
from alignflow.flows.requests import (
    NAMED,
    RunRequest,
    check_size,
    one_run_of,
    recipe_path,
    refuse_another_recipe,
    request,
    served_store,
)
from alignflow.flows.run_names import is_generated, run_title
from alignflow.flows.run_pages import Story
from alignflow.flows.steps import named_steps
from alignflow.flows.sweep import Axes, Member, run_members
from alignflow.flows.sweep_pages import SweepPages, as_run
from alignflow.tasks.launch.child import listening
from alignflow.tasks.store.artifact_store import ArtifactStore

Result = dict[str, ArtifactRef] | State[Any]
Then = Literal["only this stage", "and the stages after it"]
Round = Annotated[int, Field(ge=0, le=MOST_ROUNDS)]
STOP: Then = "only this stage"
FOLLOW: Then = "and the stages after it"
if TYPE_CHECKING:
    JudgeName = str
else:
    JudgeName = Literal[tuple(catalogue.JUDGES)]  # the choices of the form; a type checker cannot read a table
PipelineSettings: Any = pipeline_form()
PreferenceSettings: Any = preference_form()
SweepSettings: Any = sweep_form()


def run_name() -> str:
    """The name of a flow run: recipe, flow, and changes; a name that a person chose is kept."""
    given = flow_run.get_parameters()
    return _kept_name() or run_title(
        _recipe_name(given.get("recipe", "")), str(flow_run.get_flow_name()), settings_of(given)
    )


def _kept_name() -> str:
    """The name of a flow run if a person chose it, or if it got one before a gate suspended it; otherwise empty."""
    name = str(flow_run.get_name() or "")
    return "" if is_generated(name) and NAMED not in flow_run.get_tags() else name


def settings_of(parameters: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Places of the recipe and values that the parameters of a run change; empty if they cannot be read: the flow then says what is wrong."""
    form, found = parameters.get("settings"), []
    if isinstance(form, Form):
        found += form.given()
    with suppress(AlignflowError):
        found += [parse_setting(text) for text in parameters.get("more") or ()]
    return found


def _recipe_name(path: str) -> str:
    try:
        return str(yaml.safe_load(recipe_path(path).read_text(encoding="utf-8"))["name"])
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        yaml.YAMLError,
        AlignflowError,
    ):  # a name must not stop a run: the flow says what is wrong
        return Path(path).stem


def preference_run_name() -> str:
    """The name of a run that makes preference data: the prompts' file, and the flow's name."""
    return _kept_name() or f"{Path(flow_run.get_parameters().get('prompts', '')).stem} {flow_run.get_flow_name()}"


def answered(work: Callable[[ArtifactStore], Sequence[Outcome]]) -> Result:
    """Do the work of a flow on the served store; an error becomes the message of the flow's final state."""
    try:
        return {outcome.name: outcome.ref for outcome in work(served_store())}
    except AlignflowError as error:
        get_run_logger().error("%s", error)
        return Failed(message=str(error))


@flow(name="pipeline", flow_run_name=run_name, persist_result=False)
def pipeline(
    recipe: str,
    settings: PipelineSettings = PipelineSettings(),  # noqa: B008
    more: list[str] = [],  # noqa: B006
    selection: Selection = Selection(),  # noqa: B008
    smoke: bool = False,
    wait: bool = True,
) -> Result:
    """Align a model with a recipe. Stages that are already in the store do not run again.

    Args:
        recipe: Path of the recipe's file on the machine that runs it; a relative one is looked for where `alignflow up` was called, then in the directory that holds the store.
        settings: What to change in it; empty fields are as in the recipe.
        more: Other places of the recipe, each as NAME=VALUE: data.max_length=256.
        selection: Which part to run, and what to do again; empty: all of it, but only what is missing.
        smoke: Every stage on 32 rows and 4 steps, under keys of its own.
        wait: Wait while another run of a recipe of this name goes on.
    """

    def work(store: ArtifactStore) -> list[Outcome]:
        refuse_another_recipe(recipe_path(recipe), flow_run.get_tags())
        asked = request(recipe, settings, more, smoke)
        loaded = asked.recipe()
        refuse_missing(loaded, selection, store, "selection.only")
        chosen, forced = selected(Caller(loaded, store).nodes, selection)
        check_size(loaded, store, frozenset(node.name for node in chosen), frozenset(forced))
        alone = one_run_of(loaded, store, get_run_logger().info) if wait else nullcontext()
        with alone, Story(loaded.name, store, asked) as story, listening(story.progress):
            return walk(loaded, selection, store, story.narrator, asked)

    return answered(work)


@flow(name="sweep", flow_run_name=run_name, persist_result=False)
def sweep(
    recipe: str,
    axes: Axes = Axes(),  # noqa: B008
    settings: SweepSettings = SweepSettings(),  # noqa: B008
    more: list[str] = [],  # noqa: B006
    smoke: bool = False,
    wait: bool = True,
) -> Result:
    """Run a recipe with many methods, learning rates and seeds. Shared steps run once, and another run continues where this one ended.

    Args:
        recipe: Path of the recipe's file on the machine that runs it; a relative one is looked for where `alignflow up` was called, then in the directory that holds the store.
        axes: What differs between the members.
        settings: What to change in the recipe for all members; empty fields are as in the recipe.
        more: Other places of the recipe, each as NAME=VALUE: data.max_length=256.
        smoke: Every stage on 32 rows and 4 steps, under keys of its own.
        wait: Wait while another run of a recipe of this name goes on.
    """

    def work(store: ArtifactStore) -> list[Outcome]:
        asked = request(recipe, settings, more, smoke)
        base = asked.recipe()
        found = axes.members(lambda changes: asked.changed(changes).recipe(), recipe_path(recipe).absolute().parent)
        alone = one_run_of(base, store, get_run_logger().info) if wait else nullcontext()
        with alone, SweepPages(base.name, len(found)) as pages:
            aligned = run_members(found, store, lambda member: run_member(member, asked, store), pages.done)
        if not aligned:
            raise StageError(
                f"none of {len(found)} members has a result", where="sweep", do="see the log and the table of this run"
            )
        return aligned

    return answered(work)


def run_member(member: Member, asked: RunRequest, store: ArtifactStore) -> list[Outcome]:
    """Run the whole recipe of a member of a sweep as a separate flow run."""
    own = asked.changed(member.settings)

    def work() -> list[Outcome]:
        nodes = frozenset(node.name for node in Caller(member.recipe, store).nodes)
        check_size(member.recipe, store, nodes, frozenset())
        with Story(f"{member.recipe.name} {member.name}", store, own) as story, listening(story.progress):
            return walk(member.recipe, Selection(), store, story.narrator, own)

    return as_run(member, work)


@cache
def stage_flow(stage: str) -> Flow[..., Any]:
    """The flow that runs one stage of a recipe by itself, on existing inputs."""
    no_settings, no_inputs = stage_form(stage)(), inputs_form(stage)()

    def run(  # noqa: PLR0913 (a field of the form each)
        recipe: str,
        settings: Any = no_settings,
        more: list[str] = [],  # noqa: B006
        inputs: Any = no_inputs,
        round: Round = 0,
        then: Then = STOP,
        force: bool = False,
    ) -> Result:
        named = named_inputs(inputs)
        step = step_name(stage, round)
        return answered(
            lambda store: run_alone(
                step, request(recipe, settings, more, of_round=(stage, round)), named, then == FOLLOW, force, store
            )
        )

    kinds = {
        "recipe": str,
        "settings": stage_form(stage),
        "more": list[str],
        "inputs": inputs_form(stage),
        "round": Round,
        "then": Then,
        "force": bool,
    }
    empty = {
        name
        for name, kind in kinds.items()
        if isinstance(kind, type) and issubclass(kind, Form) and not kind.model_fields
    }
    whole = inspect.signature(run)
    shown = [
        parameter.replace(annotation=kinds[name]) for name, parameter in whole.parameters.items() if name not in empty
    ]
    run.__signature__ = whole.replace(parameters=shown, return_annotation=Any)  # type: ignore[attr-defined]
    run.__annotations__ = {name: kind for name, kind in kinds.items() if name not in empty}
    run.__name__ = run.__qualname__ = stage
    run.__doc__ = STAGE_HELP.format(summary=catalogue.STAGES[stage].summary)
    return flow(name=stage, flow_run_name=run_name, persist_result=False)(run)


STAGE_HELP = """{summary}

Args:
    recipe: Path of the recipe's file on the machine that runs it; a relative one is looked for where `alignflow up` was called, then in the directory that holds the store.
    settings: What to change in the stage; empty fields are as in the recipe.
    more: Other places of the recipe, each as NAME=VALUE: data.max_length=256.
    inputs: Artifacts to use, each by the start of its key or digest; empty: the recipe's own, else those of the latest good run.
    round: Which round of the stage, if the recipe has rounds; 0: all of them. With a round, settings change only that round.
    then: Whether to run the stages that depend on this one too.
    force: Run it again even if the store has its result.
"""


@cache
def inputs_form(stage: str) -> type[Form]:
    """The form that names artifacts for the inputs of a stage."""
    row = catalogue.STAGES[stage]
    fields: dict[str, Any] = {
        name: (
            str,
            empty_unless_given(
                title=name,
                description="The start of a key or digest. Empty: the recipe's own, else that of the latest good run.",
            ),
        )
        for name in row.single_inputs
    }
    if row.many_inputs:
        described = (
            "Artifacts by the names of their steps, each by the start of a key or digest. Empty: as for other inputs."
        )
        fields[row.many_inputs] = (
            dict[str, str] | SkipJsonSchema[None],  # type: ignore[misc]
            empty_unless_given(title=row.many_inputs, description=described),
        )
    form = create_model(f"{stage.capitalize()}Inputs", __base__=Form, **fields)
    form.places = {name: name for name in fields}
    return form


def named_inputs(inputs: Form) -> dict[str, str]:
    """Input -> the artifact that the user named for it; artifacts of an input that takes many are listed under their own names."""
    found: dict[str, str] = {}
    for name, value in inputs.given():
        found |= value if isinstance(value, dict) else {name: value}
    return found


def run_alone(
    stage: str, asked: RunRequest, named: dict[str, str], follow: bool, force: bool, store: ArtifactStore
) -> list[Outcome]:
    """Run a step of a recipe or all its rounds, and with `then` the steps after it. All inputs are found first."""
    caller = Caller(asked.recipe(), store, asked)
    steps = steps_of(caller, stage, follow)
    inputs = find_inputs(caller, steps, stage, named)
    forced = set(named_steps(caller.nodes, stage)) if force else set()
    check_size(caller.recipe, store, frozenset(steps), frozenset(forced))
    for note in inputs.notes:
        get_run_logger().info("takes %s", note)
    chosen = [node for node in caller.nodes if node.name in steps or node.name in inputs.calls]
    with Story(caller.recipe.name, store, asked, inputs.notes) as story, listening(story.progress):
        return walk_nodes(caller, chosen, forced, story.narrator, inputs)


@flow(name="rlaif-data", flow_run_name=preference_run_name, persist_result=False)
def rlaif_data(  # noqa: PLR0913 (a field of the form each)
    prompts: str,
    model: str,
    judge: JudgeName = "rubric",
    judge_options: dict[str, Any] = {},  # noqa: B006
    settings: PreferenceSettings = PreferenceSettings(),  # noqa: B008
    out: str = "",
    table: TableName = "preferences",
) -> Result:
    """Preference data on demand: sample answers to prompts, let a judge label them, report. Trains nothing.

    Args:
        prompts: Prompts to answer: a file, a saved data set, or a Hub id; a relative path starts at the directory that holds the store.
        model: The model that answers: a directory, a Hub id, or the start of the key of a model in the store.
        judge: The judge that labels.
        judge_options: Options of this judge; see `alignflow judges JUDGE`.
        settings: How to sample and label; empty fields have their defaults.
        out: A directory of the machine that runs it to copy the data to; it must not exist, or be empty.
        table: The table to copy: pairs, answers labelled good or bad, or answers with scores.
    """

    def work(store: ArtifactStore) -> list[Outcome]:
        order = Order(prompts, model, judge, tuple(judge_options.items()), (*settings.given(),), out, table)
        checked = check_order(order, store, store.root.parent)
        with (
            one_run_of(checked.recipe, store, get_run_logger().info),
            Story(checked.recipe.name, store) as story,
            listening(story.progress),
        ):
            outcomes = walk_nodes(checked.caller, checked.caller.nodes, set(), story.narrator, checked.inputs)
        for line in checked.deliver(outcomes):
            get_run_logger().info("%s", line)
        return outcomes

    return answered(work)


STAGE_FLOWS = tuple(stage for stage in catalogue.STAGES if stage not in STANDS_IN)
"""The stages that have a flow of their own."""


def __getattr__(name: str) -> Any:
    """Each stage's flow as `alignflow.flows.deployed.STAGE`, made on access: a run needs one of them, not all their forms."""
    if name in STAGE_FLOWS:
        return stage_flow(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
