"""The content of models outside a store that a config names by path: a row's id must not depend on the path alone."""

from __future__ import annotations

import functools
from pathlib import Path

from pydantic import BaseModel

from alignflow.data import binding
from alignflow.data.artifacts import artifact_of, digest_of, file_digest, payload_files
from alignflow.data.configs.base import content_kind


def named_models(config: BaseModel) -> dict[str, str]:
    """The current content of every model outside a store that a config names, by its place in the config; empty for none.

    `model_identity` does not cover such models, and with their paths alone a later model at the same path would reuse their rows.
    """
    return {
        f"{place}.{name}": content
        for place, inner in binding.configs_in(config, "config")
        for name in type(inner).model_fields
        if content_kind(type(inner), name) in ("path", "model") and (content := content_outside(getattr(inner, name)))
    }


def content_outside(path: Path | str | None) -> str:
    """The digest of a directory outside a store, or the name of a model of the Hub; empty for a model in a store, for a file, and for None."""
    if path is None or Path(path).is_file():
        return ""
    directory = Path(path).absolute()
    if not directory.is_dir():
        return str(path)
    return "" if artifact_of(directory) else _content(directory, _state(directory))


def _state(directory: Path) -> tuple[tuple[str, int, int], ...]:
    found = [(name, (directory / name).stat()) for name in payload_files(directory)]
    return tuple((name, file.st_size, file.st_mtime_ns) for name, file in found)


@functools.lru_cache(maxsize=64)
def _content(directory: Path, state: tuple[tuple[str, int, int], ...]) -> str:
    """The digest of all files, cached by `state`, their time of change: it is needed thousands of times for one model."""
    return digest_of({name: file_digest(directory / name) for name, _, _ in state})
