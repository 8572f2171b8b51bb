"""`alignflow export`: writes a model or a data set to a directory, in the format of the Hub."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape

from alignflow.cli.chat import find_model
from alignflow.cli.stored import NAMES
from alignflow.cli.terminal import Console
from alignflow.data.adapters import is_adapter
from alignflow.data.artifacts import artifact_of, checked_manifest
from alignflow.data.dataset_export import export_dataset
from alignflow.data.errors import UserError
from alignflow.data.model_cards import model_card
from alignflow.data.reward_ensembles import is_ensemble
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.store.model_facts import model_facts
from alignflow.tasks.store.pins import using

MODELS, DATA = ("checkpoint", "reward_model"), "dataset"
StoredDtype = Literal["fp32", "bf16"]
Write = Callable[[Path], list[str]]
"""Writes to a directory; returns lines that say what it wrote."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("export")(export_result)


def export_result(
    reference: Annotated[
        str, typer.Argument(metavar="REF", help=f"A model or data set: {NAMES}, or the path of a model.")
    ],
    directory: Annotated[
        Path, typer.Argument(metavar="DIRECTORY", help="Where to write it. The directory must be empty or not exist.")
    ],
    dtype: Annotated[
        StoredDtype | None,
        typer.Option("--dtype", help="Convert the weights of a model; without it they stay as they are stored."),
    ] = None,
) -> None:
    """Write a model as a self-contained Hugging Face directory (an adapter is merged into its base; of an ensemble
    of reward models each member is written), or a data set with its card for `datasets.load_dataset`."""
    console = Console()
    with (
        exported(reference, "export", directory.absolute().name, dtype) as (name, _, write),
        console.status(f"writing {name}"),
    ):
        lines = write(directory)
    console.print(f"{name}: {escape(str(directory))}", highlight=False, soft_wrap=True)
    for line in lines:
        console.print(f"  {escape(line)}", highlight=False, soft_wrap=True)


@contextlib.contextmanager
def exported(
    reference: str, command: str, place: str, dtype: StoredDtype | None = None
) -> Iterator[tuple[str, str, Write]]:
    """Name, kind (model or dataset) and writer of what a reference names; gc keeps it inside the block.

    Args:
        reference: The REF argument.
        command: The command that messages name.
        place: The directory or repository from which the code on a model's card loads it.
        dtype: What to convert a model's weights to.

    Raises:
        UserError: it names neither a model nor a data set, or a data set with a dtype.
    """
    if not _is_path_of_model(reference):
        store = ArtifactStore(for_reading=True)
        manifest = store.resolve(reference, (*MODELS, DATA))  # the data, if the run made no model
        if manifest.kind == DATA:
            if dtype is not None:
                raise UserError("a data set has no weights to convert", where="--dtype", do="leave it out")
            with using(store, manifest.key):
                payload = store.payload(store.manifest(manifest.key).ref())
                yield manifest.key[:16], DATA, lambda out: export_dataset(manifest, payload, out)
            return
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    with find_model(reference, command, MODELS) as (name, path):

        def write(out: Path) -> list[str]:
            from alignflow.models.export import export

            export(path, out, card_of_model(path, place), dtype)
            return []

        yield name, "model", write


def card_of_model(path: Path, place: str) -> str:
    """The card of a model in the store; empty for a model from elsewhere, which keeps its own."""
    artifact = artifact_of(path.absolute()) or artifact_of(path.resolve())
    if artifact is None:
        return ""
    manifest = checked_manifest(artifact)
    return model_card(model_facts(ArtifactStore(artifact.parent.parent, for_reading=True), manifest), place)


def _is_path_of_model(reference: str) -> bool:
    return (Path(reference) / "config.json").is_file() or is_adapter(reference) or is_ensemble(reference)
