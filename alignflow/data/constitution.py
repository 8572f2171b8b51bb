"""Where a constitution's files are: what the cache key digests and the rubric judge reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alignflow.data.errors import DataError, quoted
from alignflow.data.paths import is_file
from alignflow.data.yaml_text import YamlError, read_yaml_file

BUILT_IN = Path(__file__).parent / "constitutions"


def constitution_path(name_or_path: str) -> Path:
    """The file of a built-in name (helpful, reader) or a path; raises DataError that lists the built-in names."""
    built_in = sorted(path.stem for path in BUILT_IN.glob("*.yaml"))
    if name_or_path in built_in:
        return BUILT_IN / f"{name_or_path}.yaml"
    path = Path(name_or_path)
    if not is_file(path):
        advice = f"built-in ones: {', '.join(built_in)}; or give the path of a YAML file"
        raise DataError(f"no constitution {quoted(name_or_path)}", where="judge.options.constitution", do=advice)
    return path


def read_constitution(path: Path) -> dict[str, Any]:
    """The content of a constitution file, unchecked beyond being a mapping; raises DataError where it is not one."""
    try:
        content = read_yaml_file(path)
    except (OSError, YamlError) as error:
        raise DataError(f"not readable as YAML: {error}", where=str(path), do="correct the file") from error
    if not isinstance(content, dict):
        raise DataError("not a mapping", where=str(path), do="a constitution has name, description and principles")
    return content


def lexicon_path(constitution: Path, lexicon: str) -> Path:
    """A lexicon's path is relative to the directory of the constitution that names it."""
    return constitution.parent / lexicon


def constitution_files(name_or_path: str) -> list[Path]:
    """All files that a constitution's scores depend on: the YAML first, then the lexicons that it names."""
    path = constitution_path(name_or_path)
    entries = read_constitution(path).get("principles")
    options = (
        [entry.get("options") for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    )
    named = {
        choice["lexicon"] for choice in options if isinstance(choice, dict) and isinstance(choice.get("lexicon"), str)
    }
    return [path, *(lexicon_path(path, lexicon) for lexicon in sorted(named))]


def shared_principles(first: str, second: str) -> set[str]:
    """Names and kinds of principles that two constitutions have in common: such a pair cannot judge each other's labels."""
    marks = []
    for name in (first, second):
        entries = read_constitution(constitution_path(name)).get("principles") or []
        marks.append(
            {
                str(entry[field])
                for entry in entries
                if isinstance(entry, dict)
                for field in ("name", "kind")
                if field in entry
            }
        )
    return marks[0] & marks[1]
