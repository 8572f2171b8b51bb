"""The top-level definitions of a module and the names that each uses, from the syntax tree.

Docstrings, comments, layout and annotations are left out. The annotations of a class that has bases and is not a dataclass
are kept, because pydantic reads them. Nothing is imported or run.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache

EFFECTS = "<effects>"
"""The statements of a module that act when it is imported."""
Chain = tuple[str, ...]
_FOR_PEOPLE = {"description", "title", "examples"}  # arguments of a pydantic field that no code reads
_WRAPPERS = {
    "cache",
    "lru_cache",
    "functools.cache",
    "functools.lru_cache",
    "dataclass",
    "dataclasses.dataclass",
    "contextmanager",
    "contextlib.contextmanager",
    "torch.no_grad",
    "torch.inference_mode",
    "runtime_checkable",
    "overload",
    "final",
    "total_ordering",
}


class Symbol:
    """A definition and its statements, which are analysed on demand.

    Attributes:
        nodes: Its statements, or the call that makes a table row.
    """

    def __init__(self) -> None:
        self.nodes: list[ast.AST] = []

    @cached_property
    def text(self) -> str:
        """Its syntax tree as text."""
        return "\n".join(ast.dump(node) for node in self._clean)

    @cached_property
    def names(self) -> _Names:
        """The names that it uses."""
        found = _Names()
        for node in self._clean:
            found.visit(node)
        return found

    @cached_property
    def _clean(self) -> list[ast.AST]:
        return [_Cleaner().visit(node) for node in self.nodes]


class Module:
    """A module's definitions by name, and the targets of the names that it imports."""

    def __init__(self) -> None:
        self.symbols: dict[str, Symbol] = {}
        self.imports: dict[str, str] = {}

    def extend(self, name: str, node: ast.AST) -> None:
        """Add a statement to a definition."""
        self.symbols.setdefault(name, Symbol()).nodes.append(node)


@lru_cache(maxsize=1024)
def analyse(text: str, tables: frozenset[str] = frozenset()) -> Module:
    """The definitions of a module's source.

    Args:
        text: The source.
        tables: Names of dictionaries whose entries are separate definitions, `NAME[key]`; the whole dictionary is none.

    Raises:
        SyntaxError: the text is not Python.
    """
    found = Module()
    for statement in ast.parse(text).body:
        _add(found, statement, tables)
    return found


def _add(found: Module, node: ast.stmt, tables: frozenset[str]) -> None:
    if _is_skipped(node):
        return
    found.imports.update(_imported(node))
    names = set(_bound(node))
    table, value = names & tables, getattr(node, "value", None)
    if table and isinstance(value, ast.Dict):
        for key, row in zip(value.keys, value.values, strict=True):
            if isinstance(key, ast.Constant):
                found.extend(row_name(min(table), str(key.value)), _row(row))
        return
    for name in names:
        found.extend(name, node)
    if _has_effect(node):
        found.extend(EFFECTS, node)


def row_name(table: str, key: str) -> str:
    """The definition name of a row of a catalogue table."""
    return f"{table}[{key}]"


def _row(row: ast.expr) -> ast.expr:
    """A table row without its version, which is recorded separately, and without texts for people."""
    if isinstance(row, ast.Call):
        row.args = row.args[:1]
        row.keywords = [word for word in row.keywords if word.arg not in ("version", "summary", "formula", "paper")]
    return row


def _is_skipped(node: ast.stmt) -> bool:
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if not isinstance(node, ast.If) or node.orelse:
        return False
    return ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING", "__name__ == '__main__'")


def _imported(node: ast.stmt) -> dict[str, str]:
    """The imports of a top-level statement, including its branches."""
    found: dict[str, str] = {}
    for inner in ast.walk(node) if isinstance(node, ast.If | ast.Try | ast.With) else (node,):
        if isinstance(inner, ast.ImportFrom):
            found.update({alias.asname or alias.name: f"{inner.module}.{alias.name}" for alias in inner.names})
        elif isinstance(inner, ast.Import):
            first = {
                alias.name.partition(".")[0]: alias.name.partition(".")[0] for alias in inner.names if not alias.asname
            }
            found.update(first | {alias.asname: alias.name for alias in inner.names if alias.asname})
    return found


def _bound(node: ast.AST) -> Iterator[str]:
    """Names that a top-level statement defines, including its branches."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(
        node,
        ast.stmt | ast.ExceptHandler | ast.Name | ast.Tuple | ast.List | ast.Starred | ast.withitem | ast.NamedExpr,
    ):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        for inner in ast.iter_child_nodes(node):
            yield from _bound(inner)


def _has_effect(node: ast.stmt) -> bool:
    """Whether a statement does more than assign names. An unknown decorator counts, because it may register something."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return not all(_only_wraps(decorator) for decorator in node.decorator_list)
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return any(isinstance(inner, ast.Attribute | ast.Subscript) for target in targets for inner in ast.walk(target))
    if isinstance(node, ast.If | ast.Try):
        inner = [*node.body, *node.orelse, *getattr(node, "finalbody", ())]
        inner += [statement for handler in getattr(node, "handlers", ()) for statement in handler.body]
        return any(_has_effect(statement) for statement in inner)
    return not isinstance(node, ast.Import | ast.ImportFrom | ast.Pass)


def _only_wraps(decorator: ast.expr) -> bool:
    return ast.unparse(decorator.func if isinstance(decorator, ast.Call) else decorator) in _WRAPPERS


class _Cleaner(ast.NodeTransformer):
    """Removes docstrings and other standalone texts, annotations, and descriptions of fields."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return None
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        decorated = any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)
        plain = decorated or not node.bases or any("Protocol" in ast.unparse(base) for base in node.bases)
        fields = [] if plain else [inner for inner in node.body if isinstance(inner, ast.AnnAssign)]
        kept = [(inner, _without_descriptions(inner).annotation) for inner in fields]
        self.generic_visit(node)
        for inner, annotation in kept:
            inner.annotation = annotation
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)


def _without_descriptions(node: ast.AnnAssign) -> ast.AnnAssign:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Call):
            inner.keywords = [word for word in inner.keywords if word.arg not in _FOR_PEOPLE]
    return node


class _Names(ast.NodeVisitor):
    """Collects the names that a piece of code uses.

    Attributes:
        chains: Dotted names, `("group", "rank")`. Local variables are included: an extra name causes a false alarm, never a missed change.
        imports: Names that are imported inside the code, and their targets.
        strings: Its strings: some name a module, a definition, or a file next to the module.
    """

    def __init__(self) -> None:
        self.chains: set[Chain] = set()
        self.imports: dict[str, str] = {}
        self.strings: set[str] = set()

    def visit_Import(self, node: ast.Import) -> None:
        self.imports.update(_imported(node))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.imports.update(_imported(node))

    def visit_Name(self, node: ast.Name) -> None:
        if not isinstance(node.ctx, ast.Store):
            self.chains.add((node.id,))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        names, inner = [node.attr], node.value
        while isinstance(inner, ast.Attribute):
            names.append(inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name):
            self.chains.add((inner.id, *reversed(names)))
        elif isinstance(inner, ast.Call) and (place := _imported_module(inner)):
            self.strings.add(f"{place}:{names[-1]}")
            self.visit(inner.func)
        else:
            self.visit(inner)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and len(node.value) < 200:
            self.strings.add(node.value)


def _imported_module(node: ast.Call) -> str:
    """The module that `import_module("alignflow...")` names; empty for any other call."""
    is_import = ast.unparse(node.func).rpartition(".")[2] in ("import_module", "__import__")
    first = node.args[0] if is_import and node.args else None
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else ""


def dotted(chain: Chain, imports: Mapping[str, str]) -> str:
    """A dotted name with its first name replaced by the import target."""
    return ".".join((imports[chain[0]], *chain[1:]))
