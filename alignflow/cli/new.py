"""`alignflow new`: writes a recipe for a job, your model and your data."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from alignflow.cli.inspect import patience
from alignflow.cli.job_recipes import job_recipe
from alignflow.cli.jobs import JOBS, WORDS, Source, best_use, job_for, picked_task, shared_out
from alignflow.cli.recipe_text import recipe_text
from alignflow.cli.terminal import Console
from alignflow.data import catalogue
from alignflow.data.configs.explaining import explain
from alignflow.data.configs.inputs import SourceConfig
from alignflow.data.configs.loading import recipe_name
from alignflow.data.errors import UserError
from alignflow.data.inspection import inspect_source
from alignflow.data.model_directory import check_model_path
from alignflow.data.paths import is_there
from alignflow.data.sources.detect import kinds_of
from alignflow.data.sources.files import is_pattern, matched, own_suffix
from alignflow.data.sources.reading import READERS
from alignflow.tasks.store.artifact_names import LAST
from alignflow.tasks.store.artifact_store import ArtifactStore


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(new)


def new(
    task: Annotated[
        str, typer.Option(metavar="TASK", help=f"The job: {', '.join(JOBS)}. Without it, the data decides.")
    ] = "",
    model: Annotated[
        str,
        typer.Option(
            metavar="MODEL",
            help="Local directory or Hub id of the base model, or a model of the store: a step such as sft, or last. Without it, the recipe "
            "builds a small model.",
        ),
    ] = "",
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DATA",
            help="A file, a folder or pattern of files, a saved data set, or a Hub id. You can pass it several times.",
        ),
    ] = None,
    output: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the recipe.")] = Path("recipe.yaml"),
    full: Annotated[bool, typer.Option("--full", help="Add every other field as a comment.")] = False,
) -> None:
    """Write a short recipe for a task: sft, dpo, kto, rlaif, ppo or reward."""
    if output.exists():
        raise UserError("the file exists already", where=str(output), do="pass another --output")
    if not output.absolute().parent.is_dir():
        raise UserError("its folder does not exist", where=str(output), do="make it, or pass another --output")
    model = _of_store(model)
    _check_model(model)
    asked = asked_for(task, [looked_at(place) for place in dict.fromkeys(data or ())])
    lines = [*_told(asked.sources, asked.shared, asked.task), *_conclusion(asked, model, output)]
    output.write_text(written(asked, model, output.absolute().parent, full), encoding="utf-8")
    console = Console()
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


@dataclass(frozen=True)
class Asked:
    """The request for a recipe.

    Attributes:
        task: The job.
        why: Why this job was picked; empty if the user named it.
        sources: All given sources.
        shared: Table -> the sources that the job reads into it.
    """

    task: str
    why: str
    sources: Sequence[Source]
    shared: Mapping[str, Sequence[Source]]


def asked_for(task: str, sources: Sequence[Source]) -> Asked:
    """The job, named or picked from the data, and what it reads; raises UserError if its data is missing."""
    why = ""
    if not task and not sources:
        raise UserError("a recipe needs data", where="--data", do="pass --data FILE, once for each file")
    if not task:
        task, why = picked_task(sources)
    return Asked(task, why, sources, shared_out(task, sources))


def looked_at(place: str) -> Source:
    """The tables that the first rows of a source can become, best first; a Hub id is not read.

    Raises:
        UserError: there is no such file or folder, or nothing in it can be used.
    """
    if not is_there(Path(place).expanduser()) and not is_pattern(os.path.expanduser(place)):
        if _is_local(place) or own_suffix(Path(place), list(READERS))[0] in READERS:
            raise UserError(
                f"no such file or directory: {place}", where="--data", do="check the path, or pass a Hub id"
            )
        return Source(place)
    if is_pattern(os.path.expanduser(place)) and not matched(os.path.expanduser(place)):
        raise UserError(f"no file fits the pattern: {place}", where="--data", do="check the pattern, or list the files")
    found = kinds_of(_config(place))
    best = best_use(found, place)
    return Source(place, (best, *(kind for kind in found if kind != best)))


def written(asked: Asked, model: str, base: Path, full: bool) -> str:
    """The text of the recipe; local paths are relative to its directory `base`."""
    first = next(iter(asked.shared.values()))[0].path
    name = recipe_name(f"{Path(first).name.split('.')[0]}-{asked.task}", asked.task)
    data = {kind: [_from(source.path, base) for source in sources] for kind, sources in asked.shared.items()}
    return recipe_text(job_recipe(asked.task, name, _from(model, base), data), full)


def _of_store(model: str) -> str:
    """The path of the model that a step's name or `last` means, as in other commands; any other text as it is.

    Raises:
        UserError: the store has no such model.
    """
    name = model.partition("~")[0]
    if is_there(Path(model).expanduser()) or not (name == LAST or name in catalogue.STAGES):
        return model
    store = ArtifactStore(for_reading=True)
    manifest = store.resolve(model, ("checkpoint",))
    if manifest.kind != "checkpoint":
        raise UserError(
            f"{manifest.key[:24]} is a {manifest.kind}, not a model",
            where="--model",
            do="pass a step that makes a model",
        )
    return str(store.payload(manifest.ref()))


def _check_model(model: str) -> None:
    """Raise UserError if a local model does not exist or is not a model; a Hub id is not checked."""
    if not model:
        return
    place = Path(model).expanduser()
    if is_there(place):
        check_model_path(place)
    elif _is_local(model):
        raise UserError(f"no such file or directory: {model}", where="--model", do="check the path, or pass a Hub id")


def _is_local(place: str) -> bool:
    """Whether a text can only be a path: a Hub id is NAME or OWNER/NAME."""
    return place.startswith((".", "/", "~")) or place.count("/") > 1


def _config(place: str) -> SourceConfig:
    try:
        return SourceConfig(path=os.path.expanduser(place))
    except ValidationError as error:
        raise explain(error, SourceConfig, "--data", "") from None


def _from(path: str, base: Path) -> str:
    """A local path relative to the recipe's directory; anything else unchanged."""
    place = Path(path).expanduser()
    if not path or not (is_there(place) or is_pattern(str(place))):
        return path
    place = place.absolute()
    return f"./{place.relative_to(base)}" if place.is_relative_to(base) else str(place)


def _told(sources: Sequence[Source], shared: Mapping[str, Sequence[Source]], task: str) -> Iterator[str]:
    """Lines about each source and how the job reads it; raises DataError for a source that a run would refuse."""
    for source in sources:
        kind = next((kind for kind, given in shared.items() if source in given), "")
        if not kind:
            read_here = " and ".join(WORDS[kind] for kind in shared)
            yield f"{source.path}: {WORDS[source.kinds[0]]}; not used, because {task} reads {read_here} here"
        elif not source.kinds:
            yield f"{source.path}: not a local path, so a Hub id; assumed to be {WORDS[kind]}"
        else:
            yield _found_line(source.path, kind)


def _found_line(path: str, kind: str) -> str:
    with patience(f"reading {path}"):
        found = inspect_source(_config(path), kind)
    if found.error is not None:
        raise found.error
    kept, read = len(found.counted.rows), found.counted.read
    rows = f"{kept:,} rows" if kept == read else f"{kept:,} of {read:,} rows"
    columns = ", ".join(dict.fromkeys([*found.uses.became, *found.uses.decides]))
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in found.dropped.items())
    line = f"{path}: {found.format}, {rows} as {WORDS[kind]}; columns {columns}"
    return f"{line}; dropped: {dropped}" if dropped else line


def _conclusion(asked: Asked, model: str, output: Path) -> Iterator[str]:
    yield f"task {asked.task}: {job_for(asked.task).summary}"
    if asked.why:
        yield f"  picked because {asked.why}; pass --task to choose another"
    if not model:
        yield "no --model: the recipe builds a small model from the data to try the run; pass --model for a real one"
    yield f"wrote {output}"
    yield f"  alignflow run {output} --smoke   every stage in small"
    yield f"  alignflow plan {output}"
    yield f"  alignflow run {output}"
