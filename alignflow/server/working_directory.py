"""Refuses a working directory whose files would change Prefect's settings.

Prefect reads `prefect.toml`, `.env` and the table `[tool.prefect]` of `pyproject.toml` from the working directory. They may
name another server, which would see every run, or a logging configuration, which may call any function. A folder that
somebody else wrote must not be able to do that just because you type a command in it.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from dotenv import dotenv_values

from alignflow.data.errors import UserError


def refuse_prefect_files(directory: Path) -> None:
    """Raise UserError if Prefect would take settings from a file in `directory`."""
    for name, found in (("prefect.toml", _any), (".env", _dotenv), ("pyproject.toml", _pyproject)):
        path = directory / name
        if (path.is_file() or path.is_fifo()) and (what := found(path)):
            raise UserError(
                f"Prefect would take {what} from this file, which could run code",
                where=str(path),
                do="start in another folder; put settings that you need in the environment (export PREFECT_...=...)",
            )


def _any(path: Path) -> str:
    return "its settings" if path.is_file() and path.stat().st_size else ""


def _dotenv(path: Path) -> str:
    """The first Prefect setting in the file. Read with python-dotenv, as Prefect does: another parser may see other names."""
    if path.is_fifo():  # Prefect reads a pipe too, and its contents cannot be checked first
        return "settings that cannot be checked (it is a pipe)"
    try:
        names = dotenv_values(path, interpolate=False, encoding="utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(
            f"Prefect would take settings from this file, but it cannot be checked: {error}",
            where=str(path),
            do="start in another folder, or save the file as readable UTF-8 text",
        ) from None
    return next((name for name in names if name.strip().upper().startswith("PREFECT_")), "")


def _pyproject(path: Path) -> str:
    if not path.is_file():
        return ""  # Prefect reads no pipe of this name
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        return ""  # Prefect cannot read it either
    tool = content.get("tool")
    return "the table [tool.prefect]" if isinstance(tool, dict) and "prefect" in tool else ""
