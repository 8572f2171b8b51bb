"""Constitutions for language models: YAML files of principles in words, which judges, critics and raters read. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from alignflow.data.configs.explaining import suggest
from alignflow.data.errors import DataError, quoted
from alignflow.data.paths import is_file
from alignflow.data.yaml_text import YamlError, read_yaml_file

BUILT_IN = Path(__file__).parent / "principles"


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")
    text: str = Field(min_length=1, max_length=10_000)
    weight: float = Field(default=1.0, gt=0, le=1e6)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1)
    description: str = ""
    principles: list[_Entry] = Field(min_length=1, max_length=100)


@dataclass(frozen=True)
class WrittenPrinciple:
    """One principle in words.

    Attributes:
        name: What details and reports call it.
        text: What a language model reads.
        weight: In a mean over principles.
    """

    name: str
    text: str
    weight: float = 1.0


def principles_path(name_or_path: str) -> Path:
    """The file of a built-in name (helpful, harmless, ...) or a path; raises DataError that lists the built-in names."""
    built_in = built_in_names()
    if name_or_path in built_in:
        return BUILT_IN / f"{name_or_path}.yaml"
    path = Path(name_or_path)
    if not is_file(path):
        advice = f"built-in ones: {', '.join(built_in)}; or give the path of a YAML file"
        raise DataError(f"no principles {quoted(name_or_path)}", where="principles", do=advice)
    return path


def built_in_names() -> list[str]:
    """The names of the files that alignflow brings."""
    return sorted(path.stem for path in BUILT_IN.glob("*.yaml"))


def read_principles(name_or_path: str) -> list[WrittenPrinciple]:
    """The principles of a file, in its order; raises DataError that names the file and the field."""
    path = principles_path(name_or_path)
    try:
        content: Any = read_yaml_file(path)
    except (OSError, YamlError) as error:
        raise DataError(f"not readable as YAML: {error}", where=str(path), do="correct the file") from error
    try:
        file = _File.model_validate(content)
    except ValidationError as error:
        raise _explained(error, path) from None
    names = [entry.name for entry in file.principles]
    if double := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(
            f"two principles are called {double[0]!r}", where=f"{path}: principles", do="give each a name of its own"
        )
    return [WrittenPrinciple(entry.name, entry.text.strip(), entry.weight) for entry in file.principles]


def _explained(error: ValidationError, path: Path) -> DataError:
    errors = error.errors()
    # A misspelt key before the key that is missing because of it.
    first = next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
    field = ".".join(map(str, first["loc"]))
    known = _Entry if len(first["loc"]) > 1 else _File
    advice = suggest(str(first["loc"][-1]), known.model_fields) if first["type"] == "extra_forbidden" else ""
    return DataError(first["msg"], where=f"{path}: {field}", do=advice)
