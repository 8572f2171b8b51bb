"""The server's process: Prefect's app behind the guard. Run as `python -m alignflow.server.app STORE` in its environment."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import uvicorn
from prefect.server.api.server import create_app

from alignflow import collector
from alignflow.server.layout import Home
from alignflow.server.prefect_patches import patched
from alignflow.server.settings import ServerSettings
from alignflow.server.stack import guarded, uvicorn_options

STARTUP_FAILED = 3
"""Exit status of a server that could not start; uvicorn uses the same."""
TEMPORARY_SHUTDOWN_S = 1
"""Seconds that open connections of a run's own server get to close: its only client is the run, which has ended."""


def main() -> None:
    """Serve the store named on the command line until SIGTERM."""
    serve(Home(Path(sys.argv[1])).settings(), os.environ["PREFECT_SERVER_API_AUTH_STRING"])


def serve(settings: ServerSettings, login: str, listening: socket.socket | None = None) -> None:
    """Serve Prefect, patched and guarded, until SIGTERM.

    Args:
        settings: Address, names and certificate.
        login: `user:password`; Prefect reads the same one from the environment.
        listening: The socket of a run's own server, already bound. Such a server has no pages, schedules or automations.
    """
    app = patched(create_app(final=True, ephemeral=listening is not None), lasting=listening is None)
    collector.resume()
    options = uvicorn_options(settings)
    if listening:
        options["timeout_graceful_shutdown"] = TEMPORARY_SHUTDOWN_S
    server = uvicorn.Server(uvicorn.Config(guarded(app, settings, login), **options))
    server.run(sockets=[listening] if listening else None)
    if not server.started:
        sys.exit(STARTUP_FAILED)


if __name__ == "__main__":
    main()
