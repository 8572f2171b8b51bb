"""A reference to a model on disk, as another model's directory keeps it: by key in a store, else by the way to it, and always by digest."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from alignflow.data.artifacts import artifact_of, digest_of, file_digest, identity, payload_files, read_manifest
from alignflow.data.errors import ModelError


def reference_to(model: Path, out: Path) -> dict[str, str]:
    """What is written in the directory `out` to name `model`: `key` or `path`, and `digest`."""
    key, digest = _identity(model)
    return {**({"key": key} if key else {"path": os.path.relpath(model, out)}), "digest": digest}


def referred(path: Path, reference: Mapping[str, str], what: str, do: str) -> Path:
    """The directory of the model that a reference in the directory `path` names.

    In a store it is the artifact of its key, or any other with its digest.

    Args:
        path: The absolute directory that holds the reference.
        reference: What `reference_to` returned.
        what: What the model is to the directory, for messages.
        do: What to do where it is missing.

    Raises:
        ModelError: the model is missing, or its bytes are others.
    """
    model = (
        _in_store(path, reference["key"], reference["digest"])
        if "key" in reference
        else Path(os.path.normpath(path / reference["path"]))
    )
    if model is None or not model.is_dir():
        raise ModelError(f"its {what} {reference.get('key') or model} is missing", where=str(path), do=do)
    found = _identity(model)[1]
    if found != reference["digest"]:
        raise ModelError(
            f"its {what} has changed: {reference['digest'][:12]} is recorded, and there is {found[:12]} at {model}",
            where=str(path),
            do=f"restore the {what}, or make this again",
        )
    return model


def _identity(model: Path) -> tuple[str, str]:
    """Key and digest of an artifact's payload; a directory within one, or outside of a store, has no key, and its files are hashed."""
    artifact = artifact_of(Path(model).absolute())
    if artifact is None or Path(model).absolute() == artifact / "payload":
        return identity(model)
    return "", digest_of({name: file_digest(Path(model) / name) for name in payload_files(Path(model))})


def _in_store(path: Path, key: str, digest: str) -> Path | None:
    artifact = artifact_of(path)
    if artifact is None:
        return None
    own = artifact.parent / key
    if not own.is_dir():  # the same bytes under another key do as well: a version was raised that changed nothing
        for other in sorted(artifact.parent.iterdir()):
            with contextlib.suppress(OSError, ValueError):
                if read_manifest(other).digest == digest:
                    return other / "payload"
    return own / "payload"
