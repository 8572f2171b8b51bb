"""Limits of this process that would stop a server from starting: raises them if allowed, otherwise names them in an error."""

from __future__ import annotations

import resource

from alignflow.server.errors import ServerError

OPEN_FILES = 128
"""A temporary server has about 25 open files with one client; each further connection takes one more."""
WANTED_FILES = 4096
LARGEST_FILE = 32 << 20
"""Bytes that the database must be allowed to reach."""


def raise_limits() -> None:
    """Raise the limits on open files and on file size as far as this user may; the server inherits them.

    Raises:
        ServerError: a limit stays too low for a server.
    """
    _raise(
        resource.RLIMIT_NOFILE,
        WANTED_FILES,
        OPEN_FILES,
        "the limit on open files is {now}",
        f"raise it: `ulimit -n {WANTED_FILES}`",
    )
    unlimited = resource.RLIM_INFINITY
    _raise(
        resource.RLIMIT_FSIZE,
        unlimited,
        LARGEST_FILE,
        "the limit on file size is {now} bytes",
        "raise it: `ulimit -f unlimited`",
    )


def _raise(limit: int, wanted: int, least: int, what: str, do: str) -> None:
    soft, hard = resource.getrlimit(limit)
    if _below(soft, least):
        soft = wanted if not _below(hard, wanted) else hard
        resource.setrlimit(limit, (soft, hard))
    if _below(soft, least):
        raise ServerError(f"the Prefect server cannot start: {what.format(now=soft)}, but it needs {least}", do=do)


def _below(value: int, other: int) -> bool:
    if value == resource.RLIM_INFINITY:
        return False
    return other == resource.RLIM_INFINITY or value < other
