"""The code of a tokenizer: what its class is made of, for one that is no part of transformers."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from alignflow.data.artifacts import file_digest

_LIBRARIES = frozenset({"transformers", "tokenizers", *sys.stdlib_module_names})
"""Packages whose versions stand for their code: the identity of token ids has them by themselves."""


def code_of(tokenizer_class: type) -> str:
    """A class's name, with the digests of the modules that it and its bases are written in, and of those that these import from beside them.

    A module counts as beside another in the same package or folder, and where it is loaded. Classes of transformers are a name alone.
    """
    found: dict[str, str] = {}
    queue = [base.__module__ for base in tokenizer_class.__mro__]
    while queue:
        name = queue.pop()
        module = sys.modules.get(name)
        file = getattr(module, "__file__", None)
        if name in found or module is None or not file or _root(name) in _LIBRARIES:
            continue
        found[name] = file_digest(Path(file))
        if file.endswith(".py"):
            queue += [other for other in _imported(module, Path(file)) if _is_beside(module, other)]
    own = f"{tokenizer_class.__module__}.{tokenizer_class.__qualname__}"
    return " ".join([own, *(f"{name} {digest}" for name, digest in sorted(found.items()))])


def _root(name: str) -> str:
    return name.partition(".")[0]


def _imported(module: ModuleType, file: Path) -> Iterator[str]:
    """Names that a module's source imports, as of modules; some of them are those of functions, or lead nowhere."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            name = node.module or ""
            if node.level:
                try:
                    name = importlib.util.resolve_name("." * node.level + name, module.__package__)
                except ImportError:  # an import that the module itself expects to fail, outside of a package
                    continue
            yield from (name, *(f"{name}.{alias.name}" for alias in node.names))


def _is_beside(module: ModuleType, name: str) -> bool:
    file = getattr(sys.modules.get(name), "__file__", None)
    if not file or not module.__file__:
        return False
    if module.__package__ and _root(name) == _root(module.__package__):
        return True
    return Path(file).parent == Path(module.__file__).parent
