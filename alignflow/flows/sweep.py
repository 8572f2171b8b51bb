"""A sweep: one recipe with many methods, learning rates and seeds. Members share steps with equal keys, which run once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from alignflow.data import catalogue, own_module
from alignflow.data.artifacts import Manifest
from alignflow.data.configs.recipe import Recipe
from alignflow.data.configs.settings import parse_setting
from alignflow.data.configs.training import AlignConfig
from alignflow.data.errors import AlignflowError, RecipeError, quoted
from alignflow.data.own_methods import method_row
from alignflow.data.report.learning import not_learnt
from alignflow.data.step_names import matching
from alignflow.flows.forms import Fields
from alignflow.flows.pipeline import Outcome
from alignflow.tasks.store.artifact_store import ArtifactStore

Load = Callable[[Mapping[str, Any]], Recipe]
"""Settings that override the recipe file -> the recipe."""
Options = Mapping[str, Mapping[str, Any]]
"""Method -> its options."""
if TYPE_CHECKING:
    MethodName = str
else:
    MethodName = Literal[tuple(catalogue.METHODS)]  # the choices of the form; a type checker cannot read a table


class Axes(Fields):
    """What differs between the members of a sweep."""

    methods: tuple[MethodName, ...] = Field(
        default=(),
        title="methods",
        description="Empty, and without losses of your own: all methods that learn from existing data and need no option.",
    )
    own: tuple[str, ...] = Field(
        default=(),
        title="losses of your own",
        description="Each as path/to/file.py:NAME, relative to the recipe, or package.module:NAME.",
    )
    learning_rates: tuple[float, ...] = Field(
        default=(), title="learning rates", description="The same for all methods. Empty: the recipe's."
    )
    seeds: tuple[int, ...] = Field(
        default=(), title="seeds", description="Of the alignment alone: data order and dropout. Empty: the recipe's."
    )
    options: tuple[str, ...] = Field(
        default=(), title="options", description="Of one method each, as METHOD.NAME=VALUE: kto.beta=0.2."
    )

    def members(self, load: Load, folder: Path) -> list[Member]:
        """The members of a sweep, by method, learning rate and seed; every recipe is checked before anything runs.

        A field of `align` that a method does not use is left at its default for that method. The recipe's options belong to its
        own method, which keeps them; `options` take precedence.

        Args:
            load: Loads the recipe.
            folder: Directory of the recipe; paths of the user's own losses are relative to it.

        Raises:
            RecipeError: a name is unknown, or a member's recipe is wrong.
        """
        base = load({})
        if base.align is None:
            raise RecipeError("the recipe aligns nothing", where="align", do="add a section align")
        options = options_of(self.options, folder)
        named = [*self.methods, *(own_module.absolute(name, folder) for name in self.own)]
        methods = list(dict.fromkeys(named)) or _all(options)
        if alike := [name for name, count in Counter(map(own_module.short, methods)).items() if count > 1]:
            raise RecipeError(
                f"two losses are called {quoted(alike[0])}, so the results could not be distinguished",
                where="--methods",
                do="rename one of the files or functions",
            )
        rows = {name: method_row(name, "--methods") for name in dict.fromkeys((*methods, *options))}
        if unused := sorted(set(options) - set(methods)):
            raise RecipeError(
                f"options of {', '.join(map(quoted, unused))}, which the sweep does not have",
                where="--option",
                do="name it in --methods",
            )
        return [
            Member(method, rows[method].family, rate, seed, settings, load(settings))
            for method in methods
            for rate in dict.fromkeys(self.learning_rates or (base.align.learning_rate,))
            for seed in dict.fromkeys(self.seeds or (None,))
            for settings in [_settings(base.align, rows[method], method, options.get(method, {}), (rate, seed))]
        ]


@dataclass(frozen=True)
class Member:
    """One method at one learning rate and seed.

    Attributes:
        method: A name of METHODS, or a loss of the user's own.
        family: The method's family.
        learning_rate: Learning rate of its training.
        seed: Seed of its training; None: the recipe's.
        settings: Its changes to the recipe.
        recipe: The recipe with all of these.
    """

    method: str
    family: str
    learning_rate: float
    seed: int | None
    settings: Mapping[str, Any]
    recipe: Recipe

    @property
    def name(self) -> str:
        """Its name in the sweep."""
        seed = "" if self.seed is None else f" seed {self.seed}"
        return f"{own_module.short(self.method)} {self.learning_rate:g}{seed}"


@dataclass
class Result:
    """The result of a member.

    Attributes:
        method: Its method.
        family: The method's family.
        learning_rate: Learning rate of its training.
        seed: Seed of its training; None: the recipe's.
        key: Key of the aligned or merged model; empty if there is none.
        metrics: Metrics of `align`, `merge` and `evaluate`.
        seconds: Wall time of `align`, when it ran.
        error: Why it ended without a result; empty otherwise.
        warnings: Warnings of `align`, `merge` and `evaluate`.
        not_learnt: Why its training seems not to have learnt; empty if it has.
        rounds: Rounds of `align`; the metrics are those of the last one.
    """

    method: str
    family: str
    learning_rate: float
    seed: int | None = None
    key: str = ""
    metrics: dict[str, float | None] = field(default_factory=dict)
    seconds: float | None = None
    error: str = ""
    warnings: list[str] = field(default_factory=list)
    not_learnt: str = ""
    rounds: int = 1

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self)


def options_of(texts: Sequence[str], folder: Path) -> dict[str, dict[str, Any]]:
    """Parse METHOD.NAME=VALUE into method -> options; files of the user's own losses are relative to `folder`. Raises RecipeError."""
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        name, _, given = text.partition("=")
        place, colon, named = name.rpartition(":")  # a file or module of a loss precedes the colon
        method, separator, option = named.partition(".")
        if not separator or not option:
            raise RecipeError(
                f"{text!r} is not of the form METHOD.NAME=VALUE", where="--option", do="for example kto.beta=0.2"
            )
        option, value = parse_setting(f"{option}={given}")
        found.setdefault(own_module.absolute(f"{place}{colon}{method}", folder), {})[option] = value
    return found


def _settings(
    base: AlignConfig,
    row: catalogue.Method,
    method: str,
    options: Mapping[str, Any],
    training: tuple[float, int | None],
) -> dict[str, Any]:
    """A member's changes to the recipe; `training` is its learning rate and seed."""
    rate, seed = training
    given = {f"align.{name}": _default(name) for name in row.learns_from().unread if name in base.model_fields_set}
    if row.nll_option and base.sft_coefficient:
        given["align.sft_coefficient"] = 0.0
    own = base.options if method == base.method else {}
    return {
        **given,
        "align.method": method,
        "align.learning_rate": rate,
        **({} if seed is None else {"align.seed": seed}),
        "align.options": {**own, **options},
    }


def _all(options: Options) -> list[str]:
    """Methods that learn from existing data; a method with an option without default only if `options` has it."""
    return [
        name
        for name, row in catalogue.METHODS.items()
        if row.learns_from().feeds
        and (name in options or not any(field.is_required() for field in row.options.model_fields.values()))
    ]


def _default(name: str) -> Any:
    return AlignConfig.model_fields[name].get_default(call_default_factory=True)


def run_members(
    found: Sequence[Member],
    store: ArtifactStore,
    run: Callable[[Member], Sequence[Outcome]],
    done: Callable[[Member, Result], None],
) -> list[Outcome]:
    """Run each member; one that fails does not stop the others.

    Args:
        found: The members.
        store: The store of their artifacts.
        run: Walks a member's steps.
        done: Called with each member when it ends.

    Returns:
        The aligned model of each member that has one, by the member's name.
    """
    aligned: list[Outcome] = []
    for member in found:
        result = Result(own_module.short(member.method), member.family, member.learning_rate, member.seed)
        try:
            outcomes = {outcome.name: outcome for outcome in run(member)}
            _take(result, {name: store.manifest(outcome.ref.key) for name, outcome in outcomes.items()})
            if result.key:
                config = member.recipe.align
                assert config is not None, "a member aligns"
                rounds = matching(outcomes, "align")
                result.not_learnt = _doubts({name: outcomes[name] for name in rounds}, config.batch_size, store)
                last = outcomes.get("merge", outcomes[rounds[-1]])
                aligned.append(last.model_copy(update={"name": member.name}))
        except AlignflowError as error:
            result.error = " ".join(str(error).split())
        done(member, result)
    return aligned


def _take(result: Result, manifests: Mapping[str, Manifest]) -> None:
    """Metrics of the last round, seconds of all alignment steps, warnings of all steps. The model is the one that `evaluate` uses."""
    rounds = {name: matching(manifests, name) for name in ("align", "merge", "evaluate")}
    for names in rounds.values():
        for name in names:
            result.warnings += manifests[name].warnings
        result.metrics |= manifests[names[-1]].metrics if names else {}
    if not rounds["align"]:
        result.error = f"a gate ended it after {list(manifests)[-1]}, before align"
        return
    result.key, result.rounds = manifests[[*rounds["align"], *rounds["merge"]][-1]].key, len(rounds["align"])
    times = [manifests[name].cost.get("wall_s") for name in rounds["align"]]
    result.seconds = None if None in times else sum(time for time in times if time is not None)


def _doubts(rounds: Mapping[str, Outcome], batch_size: int, store: ArtifactStore) -> str:
    """Why a training seems not to have learnt; of several rounds each one with its name. Empty if all have."""
    found = {name: not_learnt(_curve(store.payload(outcome.ref)), batch_size) for name, outcome in rounds.items()}
    return "; ".join(f"{name}: {why}" if len(rounds) > 1 else why for name, why in found.items() if why)


def _curve(payload: Path) -> list[dict[str, float | None]]:
    """The points of a training's curves; empty if the file is missing: it is not part of the digest."""
    path = payload.parent / "side" / "curves.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [json.loads(line) for line in lines if line.strip()]
