"""The server's process: Prefect's app behind our checks. Run as `python -m alignflow.server.app STORE` in its environment."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import uvicorn
from prefect.server.api.server import create_app

from alignflow.server.home import Home
from alignflow.server.prefect_patches import patched
from alignflow.server.settings import ServerSettings
from alignflow.server.stack import guarded, uvicorn_options


def main() -> None:
    """Serve until SIGTERM."""
    home = Home(Path(sys.argv[1]))
    serve(home.settings(), os.environ["PREFECT_SERVER_API_AUTH_STRING"])


def serve(settings: ServerSettings, login: str) -> None:
    """Serve Prefect, patched and guarded, until SIGTERM.

    Args:
        settings: Where to listen.
        login: `user:password`; Prefect takes the same one from the environment.
    """
    app = patched(create_app(final=True))
    uvicorn.run(guarded(app, settings, login), **uvicorn_options(settings))


if __name__ == "__main__":
    main()
