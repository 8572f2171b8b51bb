"""A sweep: one recipe under many methods and learning rates. What its members share is made once, because keys are shared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from alignflow.data import catalogue
from alignflow.data.artifacts import Manifest
from alignflow.data.configs.recipe import Recipe
from alignflow.data.configs.training import AlignConfig
from alignflow.data.errors import AlignflowError, RecipeError, quoted
from alignflow.data.step_names import matching
from alignflow.flows.pipeline import Narrator, Outcome, Selection, walk
from alignflow.tasks.store.artifact_store import ArtifactStore

Load = Callable[[Mapping[str, Any]], Recipe]
"""Settings over the recipe file -> the recipe."""


@dataclass(frozen=True)
class Member:
    """One method at one learning rate.

    Attributes:
        method: A name of METHODS.
        learning_rate: Of its training.
        recipe: The recipe with both.
    """

    method: str
    learning_rate: float
    recipe: Recipe

    @property
    def name(self) -> str:
        """What the sweep calls it."""
        return f"{self.method} {self.learning_rate:g}"


@dataclass
class Result:
    """What came of a member.

    Attributes:
        method: Its method.
        family: The method's family.
        learning_rate: Of its training.
        key: Of the aligned model; empty where there is none.
        metrics: Those of `align` and `evaluate`.
        seconds: Wall time of `align`, when it ran.
        error: Why it ended without a result; empty where it did not.
        warnings: Of `align` and `evaluate`.
    """

    method: str
    family: str
    learning_rate: float
    key: str = ""
    metrics: dict[str, float | None] = field(default_factory=dict)
    seconds: float | None = None
    error: str = ""
    warnings: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self)


def members(
    load: Load, methods: Sequence[str], rates: Sequence[float], options: Mapping[str, Mapping[str, Any]]
) -> list[Member]:
    """The members of a sweep, by method and then by learning rate; every recipe is checked before anything runs.

    A field of `align` that a method has no use for is left at its default for that method. The recipe's options are those of its own
    method, which keeps them; `options` go before them.

    Args:
        load: Gives the recipe.
        methods: Names of METHODS; empty: all that learn from data that is there and have no option without a default.
        rates: Learning rates, the same for all.
        options: Method -> its options.

    Raises:
        RecipeError: a name is unknown, or a member's recipe is wrong.
    """
    base = load({})
    if base.align is None:
        raise RecipeError("the recipe aligns nothing", where="align", do="give it a section align")
    for name in (*methods, *options):
        catalogue.look_up(catalogue.METHODS, name, "--methods")
    if unused := sorted(set(options) - set(methods or _all(options))):
        raise RecipeError(
            f"options of {', '.join(map(quoted, unused))}, which the sweep does not have",
            where="--option",
            do="name it in --methods",
        )
    found = []
    for method in methods or _all(options):
        unread = catalogue.METHODS[method].learns_from().unread
        given = {f"align.{name}": _default(name) for name in unread if name in base.align.model_fields_set}
        if catalogue.METHODS[method].nll_option and base.align.sft_coefficient:
            given["align.sft_coefficient"] = 0.0
        own = base.align.options if method == base.align.method else {}
        for rate in rates:
            settings = {
                **given,
                "align.method": method,
                "align.learning_rate": rate,
                "align.options": {**own, **options.get(method, {})},
            }
            found.append(Member(method, rate, load(settings)))
    return found


def _all(options: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Methods that learn from data that is there; one with an option that has no default only where `options` has it."""
    return [
        name
        for name, row in catalogue.METHODS.items()
        if row.learns_from().feeds
        and (name in options or not any(field.is_required() for field in row.options.model_fields.values()))
    ]


def _default(name: str) -> Any:
    return AlignConfig.model_fields[name].get_default(call_default_factory=True)


def run_members(
    found: Sequence[Member], store: ArtifactStore, narrator: Narrator, done: Callable[[Member, Result], None]
) -> list[Outcome]:
    """Run each member; one that fails does not stop the others. `done` hears of each as it ends. Returns the last member's outcomes."""
    outcomes: list[Outcome] = []
    for member in found:
        result = Result(member.method, catalogue.METHODS[member.method].family, member.learning_rate)
        try:
            outcomes = walk(member.recipe, Selection(), store, narrator)
            _take(result, {outcome.name: store.manifest(outcome.ref.key) for outcome in outcomes})
        except AlignflowError as error:
            result.error = " ".join(str(error).split())
        done(member, result)
    return outcomes


def _take(result: Result, manifests: Mapping[str, Manifest]) -> None:
    """Metrics of the last rounds; seconds and warnings of all."""
    rounds = {name: matching(manifests, name) for name in ("align", "evaluate")}
    for names in rounds.values():
        for name in names:
            result.warnings += manifests[name].warnings
        result.metrics |= manifests[names[-1]].metrics if names else {}
    if not rounds["align"]:
        result.error = f"a gate ended it after {list(manifests)[-1]}, before align"
        return
    result.key = manifests[rounds["align"][-1]].key
    times = [manifests[name].cost.get("wall_s") for name in rounds["align"]]
    result.seconds = None if None in times else sum(time for time in times if time is not None)
