"""The definitions of alignflow that a piece of code reaches. Follows names from module to module and imports nothing."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

import alignflow
from alignflow.data import catalogue, shared_parts
from alignflow.data.artifacts import file_digest, text_digest
from alignflow.tasks.keys.symbols import EFFECTS, Module, Symbol, analyse, dotted, row_name

PACKAGE = "alignflow"
ROOT = Path(alignflow.__file__).parent.parent
WHOLE = "*"
"""A whole module: it is used as a value, so it is unknown which of its names are used."""
CATALOGUE = [
    importlib.import_module(f"{catalogue.__name__}.{found.name}") for found in pkgutil.iter_modules(catalogue.__path__)
]
_ADDRESS = re.compile(rf"{PACKAGE}(\.\w+)+(:\w+)?")
_FILE = re.compile(r"[\w-][\w.-]*\.(j2|json|yaml|txt|html|css)")


class Definition(NamedTuple):
    """A definition in the source: a module, and a name in it or `EFFECTS` or `WHOLE`."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}:{self.name}"


@cache
def written_rows() -> Mapping[tuple[str, str], Definition]:
    """Table and name of each row of the catalogue -> where it is written. A table may take rows from dictionaries of other modules."""
    found = {}
    for module in (*CATALOGUE, shared_parts):
        values = {name: value for name, value in vars(module).items() if isinstance(value, Mapping)}
        written = analyse(Path(str(module.__file__)).read_text(encoding="utf-8"), frozenset(values)).symbols
        for table, rows in shared_parts.VERSIONED.items():
            for name, row in rows.items():
                for variable, value in values.items():
                    if value.get(name) is row and row_name(variable, name) in written:
                        found[table, name] = Definition(module.__name__, row_name(variable, name))
    return found


@cache
def tables_in(module: str) -> frozenset[str]:
    """The dictionaries of a module that hold rows of the catalogue. Code that uses one reaches no row: the key knows which rows a call uses."""
    return frozenset(row.name.partition("[")[0] for row in written_rows().values() if row.module == module)


class Code:
    """The source of alignflow as a graph of definitions.

    Args:
        changed: Sources by module that replace those on disk, to try a change without making it.
        root: The directory that holds the package.
    """

    def __init__(self, changed: Mapping[str, str] | None = None, root: Path = ROOT):
        self._changed, self._root = dict(changed or {}), root
        self._modules: dict[str, Module | None] = {}
        self._uses: dict[Definition, frozenset[Definition]] = {}
        self._effects: dict[str, frozenset[Definition]] = {}
        self._loaded: dict[str, set[str]] = {}

    def reached(self, start: Iterable[Definition]) -> set[Definition]:
        """Every definition that `start` reaches, including itself."""
        seen = set(start)
        queue = list(seen)
        while queue:
            new = self.uses(queue.pop()) - seen
            seen |= new
            queue.extend(new)
        return seen

    def uses(self, node: Definition) -> frozenset[Definition]:
        """The definitions that a definition uses directly."""
        if node not in self._uses:
            self._uses[node] = frozenset(self._found(node))
        return self._uses[node]

    def digest(self, node: Definition) -> str:
        """Digest of a definition: its syntax tree, the targets of imported names in it, and the files next to its module that it
        names. Empty for `WHOLE`, whose definitions have their own digests."""
        symbol = self._symbol(node)
        if symbol is None:
            return ""
        imports = {**self._module(node.module).imports, **symbol.names.imports}
        names = sorted({f"{chain[0]}={imports[chain[0]]}" for chain in symbol.names.chains if chain[0] in imports})
        files = [f"{path.name}={file_digest(path)}" for path in self._files(node.module, symbol)]
        return text_digest("\n".join((symbol.text, *names, *files)))

    def module(self, name: str) -> Module | None:
        """The definitions of a module, or None if alignflow has no such module."""
        if name not in self._modules:
            text = self.source(name)
            self._modules[name] = None if text is None else analyse(text, tables_in(name))
        return self._modules[name]

    def source(self, name: str) -> str | None:
        """The source of a module, or None if alignflow has no such module."""
        if name in self._changed:
            return self._changed[name]
        return self.paths[name].read_text(encoding="utf-8") if name in self.paths else None

    @cached_property
    def paths(self) -> dict[str, Path]:
        """The file of every module, including packages."""
        found = sorted((self._root / PACKAGE).rglob("*.py"))
        names = {path: path.relative_to(self._root).with_suffix("").parts for path in found}
        return {".".join(parts[:-1] if parts[-1] == "__init__" else parts): path for path, parts in names.items()}

    def _module(self, name: str) -> Module:
        return self.module(name) or Module()

    def _symbol(self, node: Definition) -> Symbol | None:
        return self._module(node.module).symbols.get(node.name)

    def _files(self, module: str, symbol: Symbol) -> list[Path]:
        beside = [
            self._root.joinpath(*module.split(".")).parent / text
            for text in sorted(symbol.names.strings)
            if _FILE.fullmatch(text)
        ]
        return [path for path in beside if path.is_file()]

    def _found(self, node: Definition) -> Iterator[Definition]:
        yield from self._effects_of(node.module)
        module = self._module(node.module)
        if node.name == WHOLE:
            rows = tuple(f"{variable}[" for variable in tables_in(node.module))
            yield from (Definition(node.module, name) for name in module.symbols if not name.startswith(rows or ("[",)))
        symbol = module.symbols.get(node.name)
        if symbol is None:
            return
        imports = {**module.imports, **symbol.names.imports}
        for chain in symbol.names.chains:
            if chain[0] in imports:
                yield from self._resolved(dotted(chain, imports))
            if chain[0] in module.symbols:
                yield Definition(node.module, chain[0])
        for text in symbol.names.strings:
            if _ADDRESS.fullmatch(text):
                yield from self._resolved(text.replace(":", "."))
        for name in symbol.names.imports.values():
            yield from (effect for place in self._run_by(name) for effect in self._effects_of(place))

    def _resolved(self, name: str) -> Iterator[Definition]:
        """The definition of a dotted name, followed through modules that only re-export it."""
        module, rest = self._split(name)
        if not module:
            return
        if not rest:
            yield Definition(module, WHOLE)
            return
        found = self._module(module)
        if rest[0] in found.imports:
            yield from self._resolved(dotted(tuple(rest), found.imports))
        if rest[0] in found.symbols:
            yield Definition(module, rest[0])

    def _split(self, name: str) -> tuple[str, list[str]]:
        """The longest module at the start of a dotted name, and the rest of the name; the bare package does not count."""
        parts = name.split(".")
        for length in range(len(parts), 1, -1) if parts[0] == PACKAGE else ():
            if self.module(".".join(parts[:length])) is not None:
                return ".".join(parts[:length]), parts[length:]
        return "", []

    def _run_by(self, name: str) -> set[str]:
        """The modules that run when a dotted name is imported, including its packages."""
        module, _ = self._split(name)
        parts = module.split(".") if module else []
        return {".".join(parts[:length]) for length in range(1, len(parts) + 1)}

    def _loads(self, module: str) -> set[str]:
        """The modules that a module imports directly when it is imported."""
        if module not in self._loaded:
            self._loaded[module] = set().union(*map(self._run_by, set(self._module(module).imports.values())))
        return self._loaded[module]

    def _effects_of(self, name: str) -> frozenset[Definition]:
        """The effects of importing a module, in it and in every module that it imports."""
        if name not in self._effects:
            seen, queue = {name}, [name]
            while queue:
                new = self._loads(queue.pop()) - seen
                seen |= new
                queue.extend(new)
            self._effects[name] = frozenset(
                Definition(place, EFFECTS) for place in seen if EFFECTS in self._module(place).symbols
            )
        return self._effects[name]
