"""Preference data on demand: a recipe that samples, labels and reports, and trains nothing. No Prefect, no torch.

Requests of the command line and of the flow `rlaif-data` are checked here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from alignflow.data.artifacts import ArtifactRef, Manifest
from alignflow.data.configs.loading import changed_recipe, recipe_name
from alignflow.data.configs.recipe import Recipe
from alignflow.data.errors import UserError
from alignflow.data.own_module import short
from alignflow.data.preference_copy import check_target, copy_table
from alignflow.flows.calls import Caller
from alignflow.flows.forms import Form, places_form
from alignflow.flows.inputs import Inputs
from alignflow.tasks.store.artifact_names import means_artifact
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.store.pins import using

if TYPE_CHECKING:
    from alignflow.flows.pipeline import Outcome

TableName = Literal["preferences", "unpaired", "rankings"]
"""Tables that the label stage writes: pairs, answers with a label, answers with scores."""
COUNTED = ("pairs/train", "pairs/heldout", "unpaired/good", "unpaired/bad")
"""Metrics of the label stage that are reported."""
SETTINGS = (
    "sample.n",
    "sample.max_prompts",
    "sample.max_new_tokens",
    "sample.max_prompt_length",
    "sample.temperature",
    "sample.top_p",
    "label.pairs_per_prompt",
    "label.min_margin",
    "label.heldout_fraction",
    "label.unpaired.by",
    "label.unpaired.best",
    "label.unpaired.worst",
    "label.unpaired.good_at_least",
    "label.unpaired.bad_below",
    "data.max_prompt_length",
    "data.max_length",
    "replace.reward",
    "seed",
)
"""Places of the recipe in its form."""


@cache
def preference_form() -> type[Form]:
    """The form for sampling and labelling."""
    return places_form("PreferenceSettings", SETTINGS, otherwise="")


@dataclass(frozen=True)
class Order:
    """The request.

    Attributes:
        prompts: A file, a saved data set or a Hub id.
        model: A directory, a Hub id, or a checkpoint in the store by its step, its run (`NAME~0`), or the start of its key or digest.
        judge: A name of the catalogue, or package.module:class.
        judge_options: Its options: names and values.
        settings: Other places of the recipe and their values.
        out: Directory to copy the data to; empty for none.
        table: The table of the label stage to copy.
        jsonl: Whether to copy it as JSON lines instead of Parquet.
    """

    prompts: str
    model: str
    judge: str = "rubric"
    judge_options: tuple[tuple[str, Any], ...] = ()
    settings: tuple[tuple[str, Any], ...] = ()
    out: str = ""
    table: TableName = "preferences"
    jsonl: bool = False


@dataclass(frozen=True)
class CheckedOrder:
    """A checked request: its recipe on the store, the model if the store has it, and the target directory."""

    recipe: Recipe
    caller: Caller
    inputs: Inputs
    target: Path | None
    table: TableName = "preferences"
    jsonl: bool = False

    def found(self) -> bool:
        """Whether the store already has every step."""
        made: dict[str, ArtifactRef] = {}
        for node in self.caller.nodes:
            call = self.inputs.calls.get(node.name) or self.caller.call(node, made)
            manifest = self.caller.store.find(call.key) if call else None
            if manifest is None:
                return False
            made[node.name] = manifest.ref()
        return True

    def deliver(self, outcomes: Sequence[Outcome]) -> list[str]:
        """Copy the data if requested; returns lines that say what there is and where."""
        store, refs = self.caller.store, {outcome.name: outcome.ref for outcome in outcomes}
        with using(store, refs["label"].key):
            manifest = store.manifest(refs["label"].key)
            data = store.payload(manifest.ref()) / self.table
            if self.target is not None:
                copy_table(manifest, store.payload(manifest.ref()), self.table, self.target, self.jsonl)
                data = self.target
        count = {name: int(manifest.metrics.get(name) or 0) for name in COUNTED}
        return [
            f"preference data: {data} ({count['pairs/train']} pairs to train on, {count['pairs/heldout']} held out, "
            f"{count['unpaired/good']} good and {count['unpaired/bad']} bad answers to train on; {manifest.key})",
            f"report: {store.directory(refs['report'].key) / 'side' / 'report.html'}",
        ]


def check_order(order: Order, store: ArtifactStore, base: Path) -> CheckedOrder:
    """Check a request; paths are relative to `base`. Raises UserError before anything runs."""
    target = check_target((base / Path(order.out).expanduser()).absolute()) if order.out else None
    given = model_in_store(order.model, store, base)
    model = str(store.payload(given.ref())) if given else order.model
    recipe = changed_recipe(content(order, model), order.settings, base, "preference data")
    caller, inputs = Caller(recipe, store), Inputs()
    if given:
        inputs.take("init", given, "the model that was named")
    for node in caller.nodes:
        if node.name not in inputs.calls:
            caller.check(node)
    return CheckedOrder(recipe, caller, inputs, target, order.table, order.jsonl)


def content(order: Order, model: str) -> dict[str, Any]:
    """The recipe as the content of a file; its result is the preferences."""
    name = recipe_name(f"{Path(order.prompts).name.split('.')[0]}-by-{short(order.judge)}", "rlaif-data")
    return {
        "name": name,
        "model": {"path": model},
        "data": {"prompts": [{"path": order.prompts}]},
        "label": {"judge": {"name": order.judge, "options": dict(order.judge_options)}},
        "report": {"title": "preference data"},
        **dict.fromkeys(("sft", "reward", "align", "evaluate")),
    }


def model_in_store(text: str, store: ArtifactStore, base: Path) -> Manifest | None:
    """The checkpoint in the store that a text names, or None for a directory or a Hub id; raises UserError for another kind."""
    path = base / Path(text).expanduser()
    if not path.is_dir() and not means_artifact(store.root, text):
        return None
    try:
        manifest = store.resolve(str(path) if path.is_dir() else text, ("checkpoint",))
    except UserError:
        if path.is_dir():
            return None
        raise
    if store.find(manifest.key) is None:
        return None  # in another store: a directory like any other
    if manifest.kind != "checkpoint":
        raise UserError(
            f"{manifest.key[:24]} is a {manifest.kind}, not a model that generates",
            where="model",
            do="`alignflow list sft` shows models",
        )
    return manifest
