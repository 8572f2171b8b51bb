"""Reads YAML that a person wrote: strict where YAML is lax, bounded in size, and each error names its line.

Beyond YAML's own rules: a key stands once in a mapping and is text, `1e-5` is a number, a date is text, `010` is no number
in base 8, an alias copies what it names, and no tag, no infinite number and no control character is taken.
"""

from __future__ import annotations

import copy
import math
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from alignflow.data.errors import cut, quoted

MAX_BYTES = 512 * 1024
MAX_DEPTH = 40
MAX_VALUES = 50_000
"""Values of a document after its aliases are copied."""

_CORE = "tag:yaml.org,2002:"
_NULL, _BOOL, _INT, _FLOAT, _STR, _MERGE = (_CORE + name for name in ("null", "bool", "int", "float", "str", "merge"))
_SCALARS = frozenset({_NULL, _BOOL, _INT, _FLOAT, _STR})
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


class YamlError(ValueError):
    """A text cannot be read as YAML, or says something that has no one meaning; the message names the line."""


def read_yaml_file(path: Path) -> Any:
    """The value of a YAML file; raises YamlError, or OSError where it cannot be read."""
    if path.exists() and not path.is_file():
        raise YamlError("it is not a file" if path.is_dir() else "it is not a regular file")
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise YamlError(f"it is larger than {MAX_BYTES // 1024} KiB")
    try:
        return read_yaml(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise YamlError(f"line {line}: it is not UTF-8 text") from None


def read_yaml(text: str) -> Any:
    """The value of a YAML text, of dicts, lists, texts, numbers, booleans and None; raises YamlError."""
    if len(text) > MAX_BYTES:
        raise YamlError(f"it is larger than {MAX_BYTES // 1024} KiB")
    return copy.deepcopy(_parsed(text))


@lru_cache(maxsize=32)
def _parsed(text: str) -> Any:
    """As `read_yaml`; a run with nothing to do reads the same few files again and again, and composing them was a third of its time."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return None if node is None else loader.value(node, 0)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        raise YamlError(cut(f"{place}{' '.join(problem.split())}")) from None
    except yaml.YAMLError as error:
        raise YamlError(cut(" ".join(str(error).split()))) from None
    except YamlError:
        raise
    except (ValueError, OverflowError) as error:  # an escape or a number that Python cannot hold
        raise YamlError(cut(str(error))) from None


class _Loader(yaml.SafeLoader):
    """Composes nodes and builds plain values from them; none of PyYAML's own constructors of mappings is used."""

    yaml_implicit_resolvers: dict[str, Any] = {}

    def __init__(self, text: str):
        super().__init__(text)
        self._depth = self._values = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._depth += 1
        try:
            if self._depth > MAX_DEPTH:
                raise YamlError(f"line {self.line + 1}: it is nested deeper than {MAX_DEPTH} levels")
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def value(self, node: yaml.Node, depth: int) -> Any:
        """The value of a node; each alias gives a copy of its own."""
        self._values += 1
        if depth > MAX_DEPTH:
            raise YamlError(f"{_line(node)}: it is nested deeper than {MAX_DEPTH} levels, or an alias contains itself")
        if self._values > MAX_VALUES:
            raise YamlError(f"{_line(node)}: it has more than {MAX_VALUES:,} values once its aliases are copied")
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_CORE}map":
            return self._mapping(node, depth)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_CORE}seq":
            return [self.value(item, depth + 1) for item in node.value]
        if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
            return self._scalar(node)
        raise YamlError(f"{_line(node)}: the tag {quoted(node.tag.removeprefix(_CORE))} is not allowed here")

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        if found := _CONTROL.search(node.value):
            raise YamlError(f"{_line(node)}: the text has the character {found.group()!r}, which no text has")
        try:
            value = self.yaml_constructors[node.tag](self, node)
        except (ValueError, KeyError, OverflowError):
            raise YamlError(
                f"{_line(node)}: {quoted(node.value)} cannot be read as {node.tag.removeprefix(_CORE)}"
            ) from None
        if isinstance(value, float) and not math.isfinite(value):
            raise YamlError(f"{_line(node)}: {quoted(node.value)} is not a finite number")
        return value

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            key = "<<" if key_node.tag == _MERGE else self._key(key_node)
            if key in lines:
                first, second = lines[key], key_node.start_mark.line + 1
                where = f"line {first}" if first == second else f"lines {first} and {second}"
                raise YamlError(f"{where}: the key {quoted(key)} is there twice")
            lines[key] = key_node.start_mark.line + 1
            if key_node.tag == _MERGE:
                merged = self._merged(value_node, depth)
            else:
                own[key] = self.value(value_node, depth + 1)
        return {**merged, **own}

    def _key(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode) or node.tag != _STR:
            shown = quoted(node.value) if isinstance(node, yaml.ScalarNode) else "given"
            raise YamlError(f"{_line(node)}: the key {shown} is not text: put it in quotes")
        return str(self._scalar(node))

    def _merged(self, node: yaml.Node, depth: int) -> dict[str, Any]:
        """What `<<` takes in: a mapping, or several of which the first counts most."""
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        found: dict[str, Any] = {}
        for item in nodes:
            value = self.value(item, depth + 1)
            if not isinstance(value, dict):
                raise YamlError(f"{_line(item)}: `<<` takes in a mapping, and this is none")
            found = {**value, **found}
        return found


def _line(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}"


for _tag, _pattern, _first in (
    (_NULL, r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    (_BOOL, r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF", list("yYnNtTfFoO")),
    (_INT, r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)", list("-+0123456789")),
    (
        _FLOAT,
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+0123456789."),
    ),
    (_MERGE, r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), _first)
