"""Prefect's settings for a run from the command line: quiet, offline, in the store, and no server to start."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from pathlib import Path

from alignflow.data.errors import StageError
from alignflow.server.found import running_server
from alignflow.server.home import Home
from alignflow.server.working_directory import refuse_prefect_files

DEBUG = "ALIGNFLOW_DEBUG"
"""Set where a command was given `--debug`: Prefect's log is shown, and tracebacks."""

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
}
WITHOUT_SERVER = {"PREFECT_LOGGING_TO_API_ENABLED": "false", "PREFECT_LOGGING_LEVEL": "CRITICAL"}
WITH_SERVER = {"PREFECT_LOGGING_LEVEL": "INFO", "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL"}
"""The run's log is on the server's page, where there is one; the terminal has the progress line."""


def configure_prefect(store_root: Path) -> str:
    """Set the environment before Prefect is imported; returns what runs the flow, for the person.

    A server that the user configured is used, and must answer; then that of `alignflow up` on the same store; otherwise
    Prefect's own temporary one is started inside this process, with its database in the store.

    Raises:
        UserError: the working directory has a file that Prefect would take settings from.
        StageError: PREFECT_API_URL is set, and nothing answers there.
        ServerError: the server of `alignflow up` runs, but does not answer.
    """
    refuse_prefect_files(Path.cwd())
    ours = use_server_of_store(store_root)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if os.environ.get(DEBUG):
        os.environ.setdefault("PREFECT_LOGGING_LEVEL", "INFO")
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "INFO")
    for name, value in (WITH_SERVER if on_a_server() else WITHOUT_SERVER).items():
        os.environ.setdefault(name, value)
    if url := os.environ.get("PREFECT_API_URL"):
        if not ours:  # it was asked already
            _check_server(url)
        return f"Prefect server at {url}"
    # The temporary server is shut down in the middle of its own bookkeeping where a run ends early: nothing to tell a person.
    os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", os.environ["PREFECT_LOGGING_LEVEL"])
    if not _profile_names_a_server():
        home = Home(store_root).prefect
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.environ.setdefault("PREFECT_HOME", str(home))
    return "Prefect without a server (starting takes some seconds; `alignflow up` starts one that stays)"


def use_server_of_store(store_root: Path) -> bool:
    """Become a client of the server that `alignflow up` started on this store, unless the user named another; whether it did."""
    if names_a_server() or not (settings := running_server(Home(store_root))):
        return False
    os.environ.update(settings)
    return True


def on_a_server() -> bool:
    """Whether runs go to a server that the user named, and not to one inside this process."""
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
            f"no Prefect server answers ({error})", where=f"PREFECT_API_URL={url}",
            do="start it with `prefect server start`, or unset PREFECT_API_URL",
        ) from None  # fmt: skip


def _profile_names_a_server() -> bool:
    profiles = Path(os.environ.get("PREFECT_HOME", Path.home() / ".prefect")) / "profiles.toml"
    try:
        return "PREFECT_API_URL" in profiles.read_text()
    except OSError:
        return False
