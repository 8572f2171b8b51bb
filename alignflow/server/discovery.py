"""Finds the running server of a store, if there is one."""

from __future__ import annotations

import time

from alignflow.server import processes
from alignflow.server.api import Api
from alignflow.server.environment import client_environment
from alignflow.server.errors import ServerError
from alignflow.server.layout import Home

PATIENCE_S = 20
"""Seconds that a running server may be too busy to answer."""


def running_server(home: Home) -> dict[str, str] | None:
    """The environment that makes this process a client of the store's server, or None if no server is up.

    Raises:
        ServerError: it is up but does not answer.
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
                "the server of this store runs but does not answer", where=settings.url, do="`alignflow up` repairs it"
            )
        time.sleep(0.5)
    return client_environment(home, settings)


def find_api(home: Home, timeout_s: float = 15) -> Api | None:
    """A client of the store's server, here or on another machine that shares the store; None if no server is up.

    Raises:
        ServerError: it is up on this machine but does not answer.
    """
    if running_server(home) is None and not (
        home.login_file.exists() and Api(home, home.settings(), timeout_s).answers()
    ):
        return None
    return Api(home, home.settings(), timeout_s)


def server_api(home: Home) -> Api:
    """A client of the store's server; like `find_api`, but a missing server is an error.

    Raises:
        ServerError: no server is up, or it does not answer.
    """
    if (api := find_api(home)) is None:
        raise no_server(home)
    return api


def no_server(home: Home) -> ServerError:
    """The error of a command that needs a server when none is up."""
    return ServerError("no server is up", where=str(home.store), do="`alignflow up` starts one")
