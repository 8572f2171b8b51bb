"""The checks before Prefect's app, in order, in every server that we start: that of `alignflow up` and that of a single run."""

from __future__ import annotations

from typing import Any

from alignflow.server.guard import App, Guard
from alignflow.server.hostnames import is_answered, is_own_origin
from alignflow.server.job_variables import JobVariables
from alignflow.server.logins import Logins
from alignflow.server.retries import Retries
from alignflow.server.settings import ServerSettings

SHUTDOWN_S = 5
"""Seconds that open connections get to close; a worker's websocket never closes by itself."""


def guarded(app: App, settings: ServerSettings, login: str) -> App:
    """`app` behind the checks of host, origin, login and job variables; a request is repeated if the database is busy.

    Args:
        app: Prefect's app.
        settings: Where the server listens.
        login: `user:password`, the same one that Prefect has.
    """
    checked = Logins(JobVariables(Retries(app)), login)
    return Guard(
        checked, lambda host: is_answered(host, settings), lambda origin, host: is_own_origin(origin, host, settings)
    )


def uvicorn_options(settings: ServerSettings) -> dict[str, Any]:
    """Uvicorn's settings. Headers that name the client are trusted only behind a proxy: others could forge them."""
    return {
        "host": settings.host,
        "port": settings.port,
        "ssl_certfile": settings.tls_certificate,
        "ssl_keyfile": settings.tls_key,
        "log_level": "warning",
        "server_header": False,
        "timeout_graceful_shutdown": SHUTDOWN_S,
        "proxy_headers": bool(settings.allowed_hosts),
    }
