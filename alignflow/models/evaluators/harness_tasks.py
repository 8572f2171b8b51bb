"""A user's own tasks for the lm-evaluation-harness: reads their YAML files, and finds what would run code."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from alignflow.data.errors import UserError
from alignflow.data.sources.files import is_hidden

SUFFIXES = (".yaml", ".yml")
WHERE = "evaluate.lm_eval.include_path"
BRINGS_CODE = ("class", "custom_dataset", "unsafe_code", "hf_evaluate")
"""Keys of a task with which the harness runs code of the task or of a model."""
DATA_KEYS = ("data_files", "data_dir")
CODE = "read the code, then set evaluate.lm_eval.allow_code to true; or use a task without code"


PLAIN = frozenset(
    f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "timestamp", "seq", "map", "merge")
)
"""Tags of plain data in YAML."""
NOT_READ = ("__pycache__", ".ipynb_checkpoints")
"""Folders that the harness skips."""
_BASE = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
"""Reads a text like the harness: its two parsers differ."""


class _Tagged(str):
    """The value of a node with a custom tag, such as `!function utils.score`."""


class _Loader(_BASE):  # type: ignore[valid-type, misc]
    """Reads every tag as a text, and runs nothing."""


def _tagged(loader: Any, suffix: str, node: yaml.Node) -> _Tagged:
    return _Tagged(f"!{suffix} {node.value if isinstance(node, yaml.ScalarNode) else ''}".strip())


yaml.add_multi_constructor("!", _tagged, Loader=_Loader)


@dataclass(frozen=True)
class Local:
    """The contents of a directory.

    Args:
        names: Names of its tasks, groups and tags.
        members: Members of its groups; some may be tasks of the harness.
    """

    names: frozenset[str]
    members: frozenset[str]


def local_tasks(directory: Path, metrics: Collection[str]) -> Local:
    """The tasks and groups in a directory. Every file that the harness would read is checked, included ones as well.

    Args:
        directory: Directory of the YAML files.
        metrics: The harness' metrics; empty: tasks may have code.

    Raises:
        UserError: a file is not YAML, reads a file that is not in the cache key, or would run code although it must not.
    """
    names: set[str] = set()
    members: set[str] = set()
    files = [path.resolve() for path in _task_files(directory)]  # the harness follows links
    for file in files:  # the list grows
        content = _read(file, code=not metrics)
        for place, value in _leaves(content):
            _check(file, place, value, directory, metrics)
            named = _named_file(file, place, value, directory)
            if named and named.is_file() and named not in files:
                files.append(named)
        if isinstance(content, dict):
            task = content.get("task")
            members.update(_members(task))
            own = task if isinstance(task, str) else None
            names.update(name for value in (own, content.get("group"), content.get("tag")) for name in _texts(value))
    if not names:
        raise UserError("no YAML file in it has a task", where=f"{WHERE}: {directory}", do="use a directory with tasks")
    return Local(frozenset(names), frozenset(members))


def _task_files(directory: Path) -> list[Path]:
    """Files that the harness searches for tasks."""
    found = []
    for path in sorted(path for path in directory.rglob("*") if path.suffix in SUFFIXES and path.is_file()):
        within = path.relative_to(directory)
        if set(within.parts) & set(NOT_READ):
            continue
        if is_hidden(within):
            raise UserError(
                "it is hidden, so a change of it would not be seen",
                where=f"{WHERE}: {path}",
                do="rename it or its folders so that no name starts with a dot, or move it away",
            )
        found.append(path)
    return found


def _read(file: Path, code: bool) -> Any:
    """The content of a file.

    Args:
        file: The file.
        code: Whether it may have code; otherwise each node must be plain data, even one that the content does not show.
    """
    try:
        text = file.read_bytes()
        if not code:
            _check_tags(file, yaml.compose(text, Loader=_BASE))
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, LookupError, RecursionError) as error:
        why = " ".join(str(error).split())[:200]
        raise UserError(f"it is not YAML ({why})", where=f"{WHERE}: {file}", do="correct the file") from None


def _check_tags(file: Path, root: yaml.Node | None) -> None:
    """Raises UserError for a node whose tag is not plain data: a key, a value, or a node that another one replaces."""
    waiting = [] if root is None else [root]
    seen: set[int] = set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if node.tag not in PLAIN:
            raise UserError(
                f"the tag {node.tag[:100]!r} would run code of this file, or could hide some",
                where=f"{WHERE}: {file}, line {node.start_mark.line + 1}",
                do=CODE,
            )
        if isinstance(node, yaml.MappingNode):
            waiting += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is neither a list nor a mapping, with its place."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves(item, f"{place}.{name}" if place else str(name))
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from _leaves(item, place)
    else:
        yield place, value


def _check(file: Path, place: str, value: Any, directory: Path, metrics: Collection[str]) -> None:
    key, where = place.rpartition(".")[2], f"{WHERE}: {file}, {place}"
    if metrics and ((key in BRINGS_CODE and value) or (key == "metric" and value not in metrics)):
        raise UserError(f"{str(value)[:100]!r} would run code of this file, or of what it loads", where=where, do=CODE)
    named = _named_file(file, place, value, directory)
    if not named and (set(place.split(".")) & set(DATA_KEYS) or (key == "dataset_path" and _is_path(value, directory))):
        named = (directory / value).resolve() if isinstance(value, str) else None
    elsewhere = isinstance(value, str) and ("://" in value or "::" in value or value.startswith("~"))
    if named and (elsewhere or not named.is_relative_to(directory.resolve())):
        raise UserError(
            f"{value[:200]!r} is outside of the directory, so a change of it would not be seen",
            where=where,
            do="move it into the directory, and use its path from there",
        )
    if named and any(part.startswith(".") and part not in (".", "..") for part in value.split("/")):
        raise UserError(
            f"{value[:200]!r} is hidden, so a change of it would not be seen",
            where=where,
            do="rename it or its folders so that no name starts with a dot",
        )


def _named_file(file: Path, place: str, value: Any, directory: Path) -> Path | None:
    """The YAML file that a value names: one to include, or one with prompts."""
    key = place.rpartition(".")[2]
    if isinstance(value, str) and key == "include":
        return (file.parent / value).resolve()
    if isinstance(value, str) and key == "use_prompt" and ".yaml" in value:
        return (directory / value.partition(":")[0]).resolve()
    return None


def _is_path(value: Any, directory: Path) -> bool:
    """Whether a data set is named by a path, and not by its name on the Hub or its format."""
    if not isinstance(value, str):
        return False
    return value.startswith(("/", "~", ".")) or ".." in value or os.path.exists(directory / value)


def _members(tasks: Any) -> set[str]:
    """Names of a group's members, and of the members of its inline groups."""
    found: set[str] = set()
    for item in tasks if isinstance(tasks, list) else ():
        if isinstance(item, dict) and "group" in item and "task" in item:
            found |= _members(item["task"])
        else:
            found.update(_texts(item.get("task", item.get("group")) if isinstance(item, dict) else item))
    return found


def _texts(value: Any) -> list[str]:
    return [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str)]
