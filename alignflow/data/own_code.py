"""The user's own judges, rewards and losses, named `package.module:Class`: found and looked at as text, without running them.

A plan must say that a name is wrong, and must not run the code of whoever wrote the recipe to find out. So a class
statement, a function or an import of one has to stand at the top level of the module's source.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from alignflow.data.errors import RecipeError, quoted
from alignflow.data.own_module import advice, module_file

METHODS = ("compare", "score", "probability", "details", "close")
ATTRIBUTES = ("pointwise", "fingerprint")
"""What a judge's class has; `alignflow.models.judges.base.Judge` says what each is for."""
MOST_IMPORTS = 20
FORM = "name it path/to/file.py:NAME, relative to the recipe, or package.module:NAME, on PYTHONPATH"


_MADE = (ast.Call, ast.Attribute, ast.Subscript, ast.IfExp, ast.BoolOp)


@dataclass(frozen=True)
class Found:
    """A statement that binds a name, and the file that it stands in."""

    node: ast.AST
    file: Path


def check_judge(name: str, where: str) -> None:
    """Refuse a name that is no class with a judge's methods; what its source does not say is left to the stage.

    Raises:
        RecipeError: there is no such module or class, or the class lacks a part of a judge.
    """
    found = find(name, where, "judge")
    if is_made(found.node):
        return
    if not isinstance(found.node, ast.ClassDef):
        raise RecipeError(
            f"{quoted(name)} is not a class, and a judge is one",
            where=where,
            do=f"name a class, {FORM.removeprefix('name it ')}",
        )
    has, whole = _members(found, where, MOST_IMPORTS)
    lacks = [part for part in (*METHODS, *ATTRIBUTES) if part not in has]
    if whole and lacks:
        advice = "derive from alignflow.models.judges.base.PointwiseJudge, or write the Judge protocol there"
        raise RecipeError(f"{quoted(name)} is not a judge: it lacks {', '.join(lacks)}", where=where, do=advice)


def check_reward(name: str, where: str) -> None:
    """Refuse a name that is nothing to call as `function(prompt, completion, row)`.

    Raises:
        RecipeError: there is no such module or function, or it does not take three arguments.
    """
    node = find(name, where, "function").node
    made = is_made(node) or isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Lambda)
    if not made and not isinstance(node, ast.FunctionDef):
        raise RecipeError(
            f"{quoted(name)} is not a function", where=where, do="name a function(prompt, completion, row)"
        )
    if isinstance(node, ast.FunctionDef) and not takes(node.args, 3):
        what = f"{quoted(name)} cannot be called with prompt, completion and row"
        raise RecipeError(what, where=where, do="name a function(prompt, completion, row)")


def is_made(node: ast.AST) -> bool:
    """Whether a name is bound to what another piece of code makes or holds (`J = make()`, `J = m.J`): only running it tells what that is."""
    return isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, _MADE)


def find(name: str, where: str, what: str) -> Found:
    """The statement that a name of the form file.py:NAME or package.module:NAME leads to; `what` it should be is for the messages.

    Raises:
        RecipeError: there is no such module with a source file, or no such name at its top level.
    """
    module, _, attribute = name.rpartition(":")
    if not attribute.isidentifier() or not (
        module.endswith(".py") or all(part.isidentifier() for part in module.split("."))
    ):
        raise RecipeError(
            f"{quoted(name)} is not of the form file.py:NAME or package.module:NAME", where=where, do=FORM
        )
    file = module_file(module)
    if file is None:
        missing = "no such file" if module.endswith(".py") else "no such Python module with a source file"
        raise RecipeError(f"no {what} {quoted(name)}: {missing}", where=where, do=advice(module))
    found = bound(file, attribute, where, MOST_IMPORTS)
    if found is None:
        raise RecipeError(
            f"no {what} {quoted(name)}: {file} defines no {attribute} at its top level", where=where, do=FORM
        )
    return found


def bound(file: Path, name: str, where: str, imports: int) -> Found | None:
    """The last statement at a module's top level that binds a name, through imports of it; None for none.

    An import that leads to no source does not hide an earlier statement: it may be a faster version that is not installed.
    """
    found = None
    for node in _statements(_parsed(file, where).body):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            found = Found(node, file)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                same = isinstance(node.value, ast.Name) and node.value.id != name and imports > 0
                found = (bound(file, node.value.id, where, imports - 1) or found) if same else Found(node, file)  # type: ignore[union-attr]
        elif isinstance(node, ast.ImportFrom):
            source = next((alias.name for alias in node.names if (alias.asname or alias.name) == name), None)
            source = name if source is None and node.names[0].name == "*" and found is None else source
            if source is not None and imports > 0:
                origin = _origin(node, file)
                found = (bound(origin, source, where, imports - 1) if origin else None) or found
    return found


def _origin(node: ast.ImportFrom, file: Path) -> Path | None:
    """The file that `from x import y` in another file takes from."""
    if not node.level:
        return module_file(node.module or "")
    folder = file.parents[node.level - 1] if node.level <= len(file.parents) else None
    if folder is None:
        return None
    place = folder.joinpath(*(node.module or "").split("."))
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run when a module is imported, those inside `if` and `try` too."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try | ast.With):
            for inner in ("body", "orelse", "finalbody"):
                yield from _statements(getattr(node, inner, []))
            for handler in getattr(node, "handlers", ()):
                yield from _statements(handler.body)


def _parsed(file: Path, where: str) -> ast.Module:
    try:
        return ast.parse(file.read_bytes(), str(file))
    except (SyntaxError, ValueError, RecursionError, MemoryError, OSError) as error:
        raise RecipeError(
            f"the Python file cannot be read: {type(error).__name__}: {error}",
            where=f"{where}, {file}",
            do="correct it",
        ) from None


def _members(found: Found, where: str, depth: int) -> tuple[set[str], bool]:
    """What a class has, its own bases included; and whether all of these could be looked at."""
    node = found.node
    if not isinstance(node, ast.ClassDef) or depth == 0:
        return set(), False
    has: set[str] = set()
    for statement in _statements(node.body):
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            has.add(statement.name)
        elif isinstance(statement, ast.Assign):
            has.update(target.id for target in statement.targets if isinstance(target, ast.Name))
        elif (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and statement.value is not None
        ):
            has.add(statement.target.id)
    whole = not node.decorator_list and not node.keywords
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in ("object", "ABC", "Protocol", "Generic"):
            continue
        if isinstance(base, ast.Name) and isinstance(getattr(builtins, base.id, None), type):
            has.update(dir(getattr(builtins, base.id)))
            continue
        parent = bound(found.file, base.id, where, MOST_IMPORTS) if isinstance(base, ast.Name) else None
        if parent is None:
            whole = False
            continue
        inherited, seen = _members(parent, where, depth - 1)
        has |= inherited
        whole = whole and seen
    return has, whole


def takes(arguments: ast.arguments, count: int) -> bool:
    """Whether a function can be called with so many positional arguments."""
    positional = len(arguments.posonlyargs) + len(arguments.args)
    needed = positional - len(arguments.defaults)
    keywords = any(default is None for default in arguments.kw_defaults)
    return needed <= count and (positional >= count or arguments.vararg is not None) and not keywords
