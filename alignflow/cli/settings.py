"""Prefect's settings for a run from the command line (quiet, offline, in the store), and the choice of its server."""

from __future__ import annotations

import contextlib
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from alignflow.data.errors import StageError
from alignflow.server.discovery import running_server
from alignflow.server.layout import Home
from alignflow.server.working_directory import refuse_prefect_files

DEBUG = "ALIGNFLOW_DEBUG"
"""Set by `--debug`: shows Prefect's log and tracebacks."""

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
}
LOGIN = "PREFECT_API_AUTH_STRING"
WITHOUT_SERVER = {"PREFECT_LOGGING_TO_API_ENABLED": "false", "PREFECT_LOGGING_LEVEL": "CRITICAL"}
WITH_SERVER = {"PREFECT_LOGGING_LEVEL": "INFO", "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL"}
"""The run's log is on the server's page, if there is one; the terminal shows the progress line."""


def configure_prefect(store_root: Path) -> str:
    """Set the environment before Prefect is imported. Returns a line about the server that takes the run, or "" if none is up.

    A server that the user configured comes first and must answer, then that of `alignflow up` on the same store. Prefect itself never
    starts one: its own has no login. If none is up, `server.temporary` starts one for a run that needs it.

    Raises:
        UserError: the working directory has a file from which Prefect would take settings.
        StageError: PREFECT_API_URL is set, and nothing answers there.
        ServerError: the server of `alignflow up` runs, but does not answer.
    """
    refuse_prefect_files(Path.cwd())
    ours = use_server_of_store(store_root)
    os.environ["PREFECT_SERVER_EPHEMERAL_ENABLED"] = "false"
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if os.environ.get(DEBUG):
        os.environ.setdefault("PREFECT_LOGGING_LEVEL", "INFO")
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "INFO")
    for name, value in (WITH_SERVER if on_a_server() else WITHOUT_SERVER).items():
        os.environ.setdefault(name, value)
    if url := os.environ.get("PREFECT_API_URL"):
        if not ours:  # ours was checked already
            _check_server(url)
        return f"Prefect server at {url}"
    return "the Prefect server of your Prefect profile" if _profile_names_a_server() else ""


@contextlib.contextmanager
def become_client(settings: dict[str, str]) -> Iterator[None]:
    """Set these variables while Prefect is imported. Afterwards the login is only in its memory, and no child inherits it."""
    os.environ.update(settings)
    try:
        yield
    finally:
        os.environ.pop(LOGIN, None)


def use_server_of_store(store_root: Path) -> bool:
    """Become a client of this store's server, unless the user named another. Returns whether it did."""
    if names_a_server() or not (settings := running_server(Home(store_root))):
        return False
    os.environ.update(settings)
    return True


def on_a_server() -> bool:
    """Whether runs go to a server that the user named."""
    return bool(os.environ.get("PREFECT_API_URL"))


def names_a_server() -> bool:
    """Whether the environment or the user's Prefect profile names a server."""
    return on_a_server() or _profile_names_a_server()


def _check_server(url: str) -> None:
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=3):
            return
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise StageError(
            f"no Prefect server answers ({error})",
            where=f"PREFECT_API_URL={url}",
            do="start it with `prefect server start`, or unset PREFECT_API_URL",
        ) from None


def _profile_names_a_server() -> bool:
    profiles = Path(os.environ.get("PREFECT_HOME", Path.home() / ".prefect")) / "profiles.toml"
    try:
        return "PREFECT_API_URL" in profiles.read_text()
    except OSError:
        return False
