"""Code of the user's own that a recipe names: a class or function of a file, `judges.py:Shorter`, or of a module, `package.module:Shorter`."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel

from alignflow.data import paths
from alignflow.data.artifacts import text_digest
from alignflow.data.configs.generation import JudgeConfig
from alignflow.data.configs.rewards import FunctionRewardOptions
from alignflow.data.configs.training import AlignConfig
from alignflow.data.errors import RecipeError

FIELDS: tuple[tuple[type[BaseModel], str], ...] = (
    (AlignConfig, "method"),
    (JudgeConfig, "name"),
    (FunctionRewardOptions, "function"),
)
"""The fields of the configs that may name code of the user's own."""


def may_name_code(kind: type[BaseModel], field: str) -> bool:
    """Whether a field of a config may name code of the user's own."""
    return (kind, field) in FIELDS


def is_file(name: str) -> bool:
    """Whether a name says in which file the code is, and not in which module."""
    place, colon, _ = name.rpartition(":")
    return bool(colon) and place.endswith(".py")


def absolute(name: str, base: Path) -> str:
    """The name with the path of its file made absolute, starting at `base`; any other name as it is."""
    if not is_file(name):
        return name
    place, _, attribute = name.rpartition(":")
    return f"{(base / os.path.expanduser(place)).resolve()}:{attribute}"


def short(name: str) -> str:
    """The name without the folder of its file: what enters keys and results, since a project may move."""
    return Path(name).name if is_file(name) else name


def source_file(name: str) -> Path:
    """The file that holds the code, found without importing anything; raises RecipeError where there is none."""
    place = name.rpartition(":")[0]
    file = module_file(place)
    if file is None:
        missing = "no such file" if is_file(name) else "no such Python module with a source file"
        raise RecipeError(missing, where=name, do=advice(place))
    return file


def module_file(module: str) -> Path | None:
    """The source file of a module, found along Python's path without importing anything; None where it has none."""
    if module.endswith(".py"):
        return Path(module) if paths.is_file(Path(module)) else None
    importlib.invalidate_caches()  # a file may have been written a moment ago
    path: list[str] | None = None
    file = None
    for part in _prefixes(module):
        try:
            spec = _top_level_spec(part) if path is None else PathFinder.find_spec(part, path)
        except (ImportError, ValueError, OSError):
            return None
        if spec is None:
            return None
        path = list(spec.submodule_search_locations) if spec.submodule_search_locations is not None else []
        file = Path(spec.origin) if spec.origin else None
    return file if file is not None and file.suffix == ".py" and paths.is_file(file) else None


def _top_level_spec(name: str) -> ModuleSpec | None:
    """Where a top-level module is, by all finders: packages that are installed in editable form are found by one of their own."""
    found = (finder.find_spec(name, None) for finder in sys.meta_path)
    return next(
        (spec for spec in found if spec is not None and (spec.has_location or spec.submodule_search_locations)), None
    )


def _prefixes(module: str) -> Iterator[str]:
    parts = module.split(".")
    yield from (".".join(parts[: index + 1]) for index in range(len(parts)))


def load(name: str) -> Any:
    """Import what the name says and return the class or function.

    The folder of a file is not searched for what the file imports: a `pandas.py` beside it stays unread.

    Raises:
        RecipeError: there is no such file, module or attribute, or importing it fails.
    """
    place, _, attribute = name.rpartition(":")
    try:
        module = _module_of_file(source_file(name)) if is_file(name) else importlib.import_module(place)
        if hasattr(module, attribute):
            return getattr(module, attribute)
    except RecipeError:
        raise
    except (Exception, SystemExit) as error:  # the user's own code may raise anything
        if isinstance(error, ModuleNotFoundError) and f"{place}.".startswith(f"{error.name}."):
            raise RecipeError(f"no function or class {short(name)!r}: {error}", where=name, do=advice(place)) from error
        what = f"{short(name)!r} cannot be imported: {type(error).__name__}: {error}"
        raise RecipeError(what, where=name, do=_remedy(error)) from error
    raise RecipeError(
        f"no function or class {short(name)!r}: {Path(place).name} defines no {attribute}",
        where=name,
        do="check the name",
    )


def _remedy(error: BaseException) -> str:
    """What a person can do where their own code fails while it is imported."""
    if isinstance(error, ImportError):
        return "install what it imports, or put the folder of that on PYTHONPATH; the folder of the code itself is not searched"
    if isinstance(error, KeyError):
        return "if this is an environment variable, name it in engine.environment, since a stage gets no others of yours; else correct the code"
    return "correct the code: it runs when it is imported"


def _module_of_file(path: Path) -> ModuleType:
    """The module of a file, imported once; its bytes are in its name, so that a changed file is another module."""
    called = (
        f"alignflow_own_{path.stem}_{text_digest(str(path) + path.read_text(encoding='utf-8', errors='replace'))[:12]}"
    )
    if called in sys.modules:
        return sys.modules[called]
    spec = importlib.util.spec_from_file_location(called, path)
    if spec is None or spec.loader is None:
        raise ImportError("not a Python file")
    module = sys.modules[called] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[called]
        raise
    return module


def advice(place: str) -> str:
    """What a person can do: above all where the module lies in the working directory, which used to be searched."""
    if place.endswith(".py"):
        return "check the path; a relative one starts at the recipe's directory"
    for found in _in_working_directory(place):
        return (
            f"{found} lies in the working directory, which is not searched: name it by its path, as in ./{found}:NAME "
            "(relative to the recipe), or put its folder on PYTHONPATH"
        )
    return "its directory must be on PYTHONPATH; or name the file itself: path/to/file.py:NAME, relative to the recipe"


def _in_working_directory(place: str) -> Iterator[str]:
    parts = place.split(".")
    for candidate in (Path(*parts).with_suffix(".py"), Path(*parts) / "__init__.py"):
        if paths.is_file(candidate):
            yield str(candidate)
