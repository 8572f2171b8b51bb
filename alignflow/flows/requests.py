"""Requests to deployed flows, checked before anything runs. No Prefect, no torch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from alignflow.data.artifacts import file_digest
from alignflow.data.configs.loading import load_recipe, parse_setting
from alignflow.data.configs.overriding import for_round
from alignflow.data.configs.recipe import Recipe
from alignflow.data.configs.smoke import smoke_recipe
from alignflow.data.errors import RecipeError, UserError
from alignflow.data.own_module import short
from alignflow.flows.calls import plan
from alignflow.flows.capacity import Estimator, refuse_too_large
from alignflow.flows.forms import Form
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.store.run_records import Asked
from alignflow.tasks.store.store_root import home_is_set

NAMED = "named"
"""Tag of a flow run whose name a person chose: the flow keeps it."""
RECIPE_TAG = "recipe:"
SHORT_DIGEST = 12


@dataclass(frozen=True)
class RunRequest:
    """A recipe file and the changes to it.

    Attributes:
        path: The file, as given.
        settings: Places of the recipe and their values, which override the file.
        smoke: Whether it is a --smoke run.
        only: The one step to run; empty: all.
        until: The last step to run; empty: all.
    """

    path: str
    settings: tuple[tuple[str, Any], ...] = ()
    smoke: bool = False
    only: str = ""
    until: str = ""

    def changed(self, settings: Mapping[str, Any]) -> RunRequest:
        """The same with further settings that override its own."""
        return replace(self, settings=(*self.settings, *settings.items()))

    def asked(self, recipe: Recipe) -> Asked:
        """The request in the form of a run record; `recipe` is the loaded recipe."""
        file = str(recipe_path(self.path).absolute())
        settings = to_jsonable_python(dict(self.settings))
        own = {"smoke": self.smoke, "only": self.only, "until": self.until}
        return asked_for(recipe).model_copy(update={"file": file, "settings": settings, **own})

    def recipe(self) -> Recipe:
        """Load the recipe; raises RecipeError with the message of the command line."""
        recipe = load_recipe(recipe_path(self.path), self.settings)
        return smoke_recipe(recipe) if self.smoke else recipe


def asked_for(recipe: Recipe) -> Asked:
    """The request of a run whose recipe is not in a file, in the form of a run record."""
    method = short(recipe.align.method) if recipe.align else ""
    return Asked(name=recipe.name, method=method, recipe=recipe.model_dump(mode="json", exclude_defaults=True))


def request(
    path: str, form: Form, more: Sequence[str], smoke: bool = False, of_round: tuple[str, int] = ("", 0)
) -> RunRequest:
    """The request of a filled form; `more` are settings as NAME=VALUE that override the form's. Raises RecipeError.

    `of_round` is a section and a round: the form's changes to that section then apply only to that round, so the rounds before
    it are found unchanged, and those after it keep their own settings.
    """
    return RunRequest(path, (*for_round(form.given(), *of_round), *(parse_setting(text) for text in more)), smoke)


def recipe_tag(digest: str) -> str:
    """The tag of a flow run that identifies the submitted recipe: the start of its file's digest."""
    return f"{RECIPE_TAG}{digest[:SHORT_DIGEST]}"


def refuse_another_recipe(path: Path, tags: Sequence[str]) -> None:
    """Raise RecipeError if the digest in a flow run's tag differs from this machine's file."""
    wanted = [tag for tag in tags if tag.startswith(RECIPE_TAG)]
    if wanted and recipe_tag(file_digest(path)) not in wanted:
        raise RecipeError(
            "the recipe is not the one that was submitted",
            where=str(path),
            do="the file has changed since, or this machine has a different copy: put the same file on both and submit again",
        )


def recipe_path(text: str) -> Path:
    """Resolve a path on the machine that runs flows: a relative one starts at the working directory, or else at the directory that holds the store.

    Runs of `alignflow up` work in the directory where it was called; other process workers make a directory for each run.

    Raises:
        RecipeError: it is in none of these places.
    """
    path = Path(text).expanduser()
    places = [path] if path.is_absolute() else [path.absolute(), ArtifactStore(for_reading=True).root.parent / path]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise RecipeError(
            "no such recipe", where=" or ".join(dict.fromkeys(map(str, places))), do="`alignflow new` writes one"
        )
    return found


def served_store() -> ArtifactStore:
    """The store of the machine that runs flows; raises UserError if it is not set: a default store would be lost with the run."""
    if not home_is_set():
        raise UserError(
            "the worker does not know where the store is",
            where="ALIGNFLOW_HOME",
            do="start the worker with `alignflow up`, or set ALIGNFLOW_HOME to the store's directory",
        )
    return ArtifactStore()


def check_size(recipe: Recipe, store: ArtifactStore, steps: frozenset[str], forced: frozenset[str]) -> None:
    """Raise UserError if one of `steps` cannot fit this machine, as `alignflow run` does."""
    refuse_too_large(Estimator(recipe, store).needs(plan(recipe, store), forced), steps)


@contextlib.contextmanager
def one_run_of(recipe: Recipe, store: ArtifactStore, say: Callable[[str], None]) -> Iterator[None]:
    """Wait until no other whole run of a recipe of this name is active, and hold its lock.

    This is a kernel lock, not a concurrency limit of the deployment: a limit would also block unrelated recipes,
    and a lost lease would end a running training.
    """
    name = f"run:{recipe.name}"
    if store.is_locked(name):
        say(f"another run of {recipe.name} is active: this one waits for it to end")
    with store.lock(name):
        yield
