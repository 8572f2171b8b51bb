"""`alignflow inspect`: how a data source is read, and how a model's tokenizer encodes its rows."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.markup import escape

from alignflow.cli.chat import find_model, pinned_path
from alignflow.cli.inspected import show
from alignflow.cli.stored import NAMES
from alignflow.cli.terminal import Console
from alignflow.data.adapters import find_base, is_adapter
from alignflow.data.artifacts import MANIFEST, Manifest, artifact_of, checked_manifest, verify_inputs
from alignflow.data.configs.explaining import explain
from alignflow.data.configs.inputs import SourceConfig
from alignflow.data.errors import ModelError, UserError, quoted
from alignflow.data.inspection import (
    KINDS,
    TABLES,
    Inspection,
    as_json,
    inspect_source,
    inspect_table,
    rendered_rows,
    token_warnings,
    with_template,
)
from alignflow.data.paths import is_there
from alignflow.data.rendering import load_tokenizer
from alignflow.data.reward_ensembles import is_ensemble, read_ensemble
from alignflow.tasks.store.artifact_names import means_artifact
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.store.pins import using
from alignflow.tasks.store.store_root import default_root

QUIET_S, REPEATED_S = 2.0, 20.0


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("inspect")(inspect)


def inspect(  # noqa: PLR0913 (one argument per option of the command)
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help=f"A file, a folder or pattern of files, a saved data set, a Hub id, or data in the store: {NAMES}.",
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            metavar="MODEL",
            help="Encode the rows with this model's tokenizer: a directory, a Hub id, or a model in the store, named in the same way.",
        ),
    ] = "",
    kind: Annotated[
        str,
        typer.Option(
            "--as",
            metavar="KIND",
            help=f"Kind of data to read it as: {', '.join(KINDS)}; for an artifact, one of its tables.",
        ),
    ] = "",
    n: Annotated[int, typer.Option("-n", min=0, max=100_000, help="Show this many rows.")] = 3,
    data_format: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="A name of `alignflow formats`, or auto to detect it.")
    ] = "auto",
    split: Annotated[str, typer.Option(metavar="SPLIT", help="The split to read, if there are several.")] = "train",
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            metavar="NAME=PATH",
            help="A column under another name, for example prompt=data.question. Pass it once for each column.",
        ),
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(
            min=1, max=10_000_000, metavar="TOKENS", help="Count the rows that are longer than this. Needs --model."
        ),
    ] = None,
    as_object: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show how data is read: its format, its columns, which rows are dropped and why, and rows token by token with the supervised tokens marked."""
    if max_length is not None and not model:
        raise UserError("counting tokens needs a model's tokenizer", where="--max-length", do="pass --model")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    with patience(f"reading {data}"):
        tokenizer = _tokenizer(model) if model else None
        found = _inspected(data, kind, {"format": data_format, "split": split, "columns": _mapping(columns or [])})
        rows = found.counted.rows
        if tokenizer is not None and rows:
            found.warnings += [*with_template(tokenizer), *token_warnings(tokenizer, rows, max_length)]
        rendered = rendered_rows(tokenizer, list(islice(rows, n)), found.warnings) if tokenizer is not None else []
    if as_object:
        print(json.dumps(as_json(found, n, tokenizer, rendered)))
    else:
        show(Console(), data, found, n, tokenizer, rendered)
    if found.error is not None:
        raise found.error


def _mapping(columns: list[str]) -> dict[str, str]:
    """Options `NAME=PATH` as the recipe's `columns`; raises UserError for one without an equals sign."""
    for given in columns:
        if "=" not in given:
            raise UserError(
                f"{quoted(given)} names no column of the file",
                where="--column",
                do="write NAME=PATH, such as prompt=question",
            )
    return dict(given.split("=", 1) for given in columns)


def _inspected(data: str, kind: str, settings: dict[str, Any]) -> Inspection:
    """Inspect an artifact of the store, or a source."""
    path = Path(os.path.expanduser(data))
    if not is_there(path) and means_artifact(default_root(), data):
        store = ArtifactStore(for_reading=True)
        manifest = _data_set(store.resolve(data, ("dataset",)))
        with using(store, manifest.key):
            return inspect_table(
                store.payload(store.manifest(manifest.key).ref()), kind
            )  # raises if gc has removed it meanwhile
    if artifact := _artifact(path):
        with pinned_path(artifact):
            _data_set(checked_manifest(artifact))
            return inspect_table(artifact / "payload", kind or (path.name if path.name in TABLES else ""))
    try:
        source = SourceConfig(path=str(path) if data.startswith("~") else data, **settings)
    except ValidationError as error:
        raise explain(error, SourceConfig, "inspect", "") from None
    return inspect_source(source, kind)


def _artifact(path: Path) -> Path | None:
    """The artifact that a path belongs to: its directory, payload or table."""
    if not is_there(path) or not path.is_dir():
        return None
    return path.absolute() if (path / MANIFEST).is_file() else artifact_of(path.absolute())


def _data_set(manifest: Manifest) -> Manifest:
    """Return the manifest; raises UserError if it is not data."""
    if manifest.kind != "dataset":
        raise UserError(
            f"{manifest.key[:24]} is a {manifest.kind}, not a dataset",
            where="inspect",
            do="`alignflow list prepare` shows prepared data",
        )
    return manifest


def _tokenizer(model: str) -> Any:
    """The tokenizer of a model: a directory, a model in the store, or a Hub id."""
    path = Path(os.path.expanduser(model))
    there = is_there(path)
    if there and not (path / MANIFEST).is_file():
        with pinned_path(path.absolute()):
            return _of_directory(path)
    if there or means_artifact(default_root(), model):
        with find_model(str(path) if there else model, "inspect", ("checkpoint", "reward_model")) as (_, directory):
            return _of_directory(directory)
    return load_tokenizer(model)


def _of_directory(path: Path) -> Any:
    if path.is_file():
        raise ModelError(
            "this is a file, not the directory of a model", where=str(path), do=f"pass its directory, {path.parent}"
        )
    verify_inputs(path)
    if is_ensemble(path):  # each member has its own; they are the same if the recipe trained them from one base
        return _of_directory(read_ensemble(path).members[0])
    bare = is_adapter(path) and not (path / "tokenizer_config.json").is_file()
    return load_tokenizer(find_base(path) if bare else path)


@contextlib.contextmanager
def patience(text: str) -> Iterator[None]:
    """Show on stderr what is going on and for how long, after two seconds; on a terminal the line is removed at the end."""
    console, over, started = Console(stderr=True), threading.Event(), time.monotonic()

    def tell() -> None:
        if over.wait(QUIET_S):
            return
        if not console.is_terminal:
            while True:
                console.print(
                    f"{text}: {time.monotonic() - started:.0f} s", highlight=False, markup=False, soft_wrap=True
                )
                if over.wait(REPEATED_S):
                    return
        with console.status("") as status:
            while not over.wait(0.5):
                status.update(escape(f"{text}: {time.monotonic() - started:.0f} s"))

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()
