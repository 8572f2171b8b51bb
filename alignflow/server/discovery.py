"""How a command finds the server of its store, where one is up."""

from __future__ import annotations

import time

from alignflow.server import processes
from alignflow.server.api import Api
from alignflow.server.environment import client_environment
from alignflow.server.errors import ServerError
from alignflow.server.layout import Home

PATIENCE_S = 20
"""How long a server that runs may be too busy to answer."""


def running_server(home: Home) -> dict[str, str] | None:
    """The environment that makes this process a client of the store's server; None where none is up.

    Raises:
        ServerError: it is up, but does not answer.
    """
    server = processes.known(home).get("server")
    if server is None or not server.alive:
        return None
    settings = home.settings()
    api = Api(home, settings, timeout_s=5)
    end = time.monotonic() + PATIENCE_S
    while not api.answers():
        if time.monotonic() > end:
            raise ServerError(
                "the server of this store runs but does not answer", where=settings.url, do="`alignflow up` mends it"
            )
        time.sleep(0.5)
    return client_environment(home, settings)
