"""Refuses a working directory whose files would steer Prefect.

Prefect reads `prefect.toml`, `.env` and the table `[tool.prefect]` of `pyproject.toml` from wherever it is started. They may
name another server, which would hear of every run, or a logging configuration, which may call any function. A folder that
somebody else wrote must not be able to do that by being the place where a command is typed.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from alignflow.data.errors import UserError

_LINE = re.compile(rb"^\s*(?:export\s+)?(PREFECT_\w+)\s*=", re.IGNORECASE | re.MULTILINE)


def refuse_prefect_files(directory: Path) -> None:
    """Raise UserError where Prefect would take settings from a file of `directory`."""
    for name, found in (("prefect.toml", _any), (".env", _dotenv), ("pyproject.toml", _pyproject)):
        path = directory / name
        if path.is_file() and (what := found(path)):
            raise UserError(
                f"Prefect would take {what} from this file, and code could be run by that", where=str(path),
                do="start in another folder; settings that you want belong in the environment (export PREFECT_...=...)",
            )  # fmt: skip


def _any(path: Path) -> str:
    return "its settings" if path.stat().st_size else ""


def _dotenv(path: Path) -> str:
    found = _LINE.search(path.read_bytes())
    return found[1].decode() if found else ""


def _pyproject(path: Path) -> str:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        return ""  # Prefect cannot read it either
    tool = content.get("tool")
    return "the table [tool.prefect]" if isinstance(tool, dict) and "prefect" in tool else ""
