"""Keeps the working directory out of what Python imports: a folder of somebody else's may hold a `pandas.py`.

Standard library only: it acts before anything else is imported.
"""

from __future__ import annotations

import os
import sys

SAFE_PATH = {"PYTHONSAFEPATH": "1"}
"""For the environment of every Python process that we start, so that those which it starts are safe as well."""


def python(*arguments: str) -> list[str]:
    """A command that runs this interpreter without the working directory, or a script's folder, in the module search path."""
    return [sys.executable, "-P", *arguments]


def given_path(text: str) -> str:
    """A PYTHONPATH with absolute entries and without empty ones.

    Python takes an empty entry for the working directory, and `export PYTHONPATH=$PYTHONPATH:/mine` leaves one where
    nothing was set before. A person who means the working directory writes a dot.
    """
    here = _here()
    return os.pathsep.join(os.path.normpath(os.path.join(here, entry)) for entry in text.split(os.pathsep) if entry)


def leave_working_directory() -> None:
    """Take out of this process's module search path what `python -m` puts first: the working directory."""
    if not sys.flags.safe_path and sys.path and sys.path[0] in ("", _here()):
        del sys.path[0]


def drop_empty_entries() -> None:
    """Take the working directory out where only an empty entry of PYTHONPATH put it there, for this process and its children."""
    given = os.environ.get("PYTHONPATH", "")
    if given and "" in given.split(os.pathsep) and _here() not in given_path(given).split(os.pathsep):
        sys.path[:] = [entry for entry in sys.path if entry not in ("", _here())]
    if given:
        os.environ["PYTHONPATH"] = given_path(given)
    os.environ.update(SAFE_PATH)


def _here() -> str:
    """The working directory; empty where it was removed."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""
