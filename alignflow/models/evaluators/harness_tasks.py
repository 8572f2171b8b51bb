"""Tasks of the user's own for the lm-evaluation-harness: what their YAML files name, and what in them would run code."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import yaml

from alignflow.data.errors import UserError

SUFFIXES = (".yaml", ".yml")
WHERE = "evaluate.lm_eval.include_path"
BRINGS_CODE = ("class", "custom_dataset", "unsafe_code", "hf_evaluate")
"""Keys of a task by which the harness runs code of the task, or of what a model wrote."""
DATA_KEYS = ("data_files", "data_dir")


class _Tagged(str):
    """The value of a node with a tag of its own, such as `!function utils.score`."""


class _Loader(yaml.SafeLoader):
    """Reads every tag as a text, and runs nothing."""


def _tagged(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> _Tagged:
    return _Tagged(f"!{suffix} {node.value if isinstance(node, yaml.ScalarNode) else ''}".strip())


_Loader.add_multi_constructor("!", _tagged)


def local_names(directory: Path, metrics: Collection[str]) -> set[str]:
    """Names of the tasks and groups in a directory.

    Args:
        directory: Of the YAML files.
        metrics: Those that the harness has itself; empty: tasks may bring code.

    Raises:
        UserError: a file is no YAML, reads data outside of the directory, or would run code although it must not.
    """
    names: set[str] = set()
    files = sorted(path for path in directory.rglob("*") if path.suffix in SUFFIXES and path.is_file())
    for file in files:
        content = _read(file)
        if not isinstance(content, dict):
            continue
        for place, value in _leaves(content):
            _check(file, place, value, directory, metrics)
        names.update(name for key in ("task", "group", "tag") for name in _texts(content.get(key)))
    if not names:
        raise UserError(
            "no YAML file in it has a task", where=f"{WHERE}: {directory}", do="give a directory with tasks"
        )
    return names


def _read(file: Path) -> Any:
    try:
        return yaml.load(file.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        why = " ".join(str(error).split())[:200]
        raise UserError(f"it is no YAML ({why})", where=f"{WHERE}: {file}", do="correct the file") from None


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is no list and no mapping, with its place."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves(item, f"{place}.{name}" if place else str(name))
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item, place)
    else:
        yield place, value


def _check(file: Path, place: str, value: Any, directory: Path, metrics: Collection[str]) -> None:
    key, where = place.rpartition(".")[2], f"{WHERE}: {file}, {place}"
    if metrics and (
        isinstance(value, _Tagged) or (key in BRINGS_CODE and value) or (key == "metric" and value not in metrics)
    ):
        raise UserError(
            f"{str(value)[:100]!r} would run code of this file, or of what it loads",
            where=where,
            do="read the code, then set evaluate.lm_eval.allow_code to true; or take a task without it",
        )
    names_data = set(place.split(".")) & set(DATA_KEYS) or (key == "dataset_path" and _is_path(value))
    if isinstance(value, str) and (key == "include" or names_data):
        start = file.parent if key == "include" else directory
        if "://" in value or not (start / value).resolve().is_relative_to(directory.resolve()):
            raise UserError(
                f"{value[:200]!r} lies outside of the directory, so a change of it would not be seen",
                where=where,
                do="put it into the directory, and name it by its path from there",
            )


def _is_path(value: Any) -> bool:
    """Whether a data set is named by a place on disk, and not by its name on the Hub or its format."""
    return isinstance(value, str) and (value.startswith(("/", "~", ".")) or ".." in value)


def _texts(value: Any) -> list[str]:
    return [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str)]
