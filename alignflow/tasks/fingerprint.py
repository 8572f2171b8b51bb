"""Syntax-tree fingerprints of source code: what stands behind a version, blind to comments, docstrings and layout."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import alignflow
from alignflow.data import catalogue
from alignflow.data.artifacts import digest_of, text_digest

ROOT = Path(alignflow.__file__).parent.parent
TABLE_MODULE = "alignflow.data.catalogue"


def module_path(module: str) -> Path | None:
    """The file of a module of alignflow; None for a name that is not a module."""
    base = ROOT.joinpath(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


@cache
def _tree(module: str) -> ast.Module:
    path = module_path(module)
    assert path is not None
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
                node.body = node.body[1:]
    return tree


@cache
def _imports(module: str) -> tuple[str, ...]:
    found: set[str] = set()
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return tuple(sorted(name for name in found if name.startswith("alignflow.") and module_path(name)))


@cache
def source_digest(module: str) -> str:
    """Digest of one module's syntax tree without docstrings."""
    return text_digest(ast.dump(_tree(module)))


def closure(module: str, stop: frozenset[str]) -> list[str]:
    """The module and everything of alignflow that it imports, sorted; modules in `stop` have a version of their own."""
    seen, queue = {module}, [module]
    while queue:
        for name in _imports(queue.pop()):
            if name not in seen and name not in stop:
                seen.add(name)
                queue.append(name)
    return sorted(seen)


def part_name(table: str, name: str) -> str:
    """How the lock file calls a row of the catalogue."""
    return f"{table}.{name}"


@cache
def fingerprint(table: str, name: str) -> str:
    """Fingerprint of the source behind one row of the catalogue, what it imports included."""
    owned = {row.address.partition(":")[0] for rows in catalogue.TABLES.values() for row in rows.values()}
    module = catalogue.TABLES[table][name].address.partition(":")[0]
    stop = frozenset((owned - {module}) | {TABLE_MODULE})
    return digest_of({member: source_digest(member) for member in closure(module, stop)})
