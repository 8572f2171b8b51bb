"""What stands before Prefect's app in every server that we start, in one order; `alignflow up` and the server of a single run share it."""

from __future__ import annotations

from typing import Any

from alignflow.server.guard import App, Guard
from alignflow.server.hostnames import is_answered, is_own_origin
from alignflow.server.job_variables import JobVariables
from alignflow.server.logins import Logins
from alignflow.server.retries import Retries
from alignflow.server.settings import ServerSettings

SHUTDOWN_S = 5
"""How long open connections may take to end; a worker's websocket never ends by itself."""


def guarded(app: App, settings: ServerSettings, login: str) -> App:
    """`app` behind the checks of host, origin, login and job variables; a request that meets a busy database is made again.

    Args:
        app: Prefect's.
        settings: Where the server listens.
        login: `user:password`, the one that Prefect was given as well.
    """
    checked = Logins(JobVariables(Retries(app)), login)
    return Guard(
        checked, lambda host: is_answered(host, settings), lambda origin, host: is_own_origin(origin, host, settings)
    )


def uvicorn_options(settings: ServerSettings) -> dict[str, Any]:
    """How uvicorn serves it. Only behind a proxy are headers believed that say whose request it is: others could forge them."""
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
