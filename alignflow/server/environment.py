"""The environments of the server, its clients and its workers. Passwords are passed here, never on a command line."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from urllib.parse import urlsplit

from alignflow.safe_path import SAFE_PATH, given_path
from alignflow.server.flow_run import LOGS
from alignflow.server.hostnames import origins
from alignflow.server.layout import Home
from alignflow.server.settings import SQLITE, ServerSettings, encoded
from alignflow.server.tls import is_self_signed

MARK = "ALIGNFLOW_SERVER_HOME"
"""Variable that holds the home in every process that `up` starts and in their children. `down` uses it to find flow runs whose worker died."""

FOREIGN = ("PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH")
"""Variables that a user may have set for another server."""
DATABASE = re.compile(r"ALIGNFLOW_DATABASE|PREFECT_.*DATABASE.*")
"""Variables that name a database and may hold its password. Workers and their runs do not need them."""

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    "PREFECT_CLI_COLORS": "false",
}

HEARTBEAT_S = 30
"""Seconds between heartbeats, Prefect's minimum. A run that misses three counts as dead."""


def server_environment(home: Home, settings: ServerSettings, login: str = "") -> dict[str, str]:
    """The environment of the server: no telemetry, a login on every route (the home's unless given), and leases that survive a restart."""
    database = (
        {}
        if settings.database == SQLITE
        else {"PREFECT_SERVER_DATABASE_CONNECTION_URL": with_driver(settings.database)}
    )
    return {
        **_inherited(),
        **QUIET,
        **database,
        MARK: str(home.root),
        "PREFECT_HOME": str(home.prefect),
        "PREFECT_SERVER_API_HOST": settings.host,
        "PREFECT_SERVER_API_PORT": str(settings.port),
        "PREFECT_SERVER_API_AUTH_STRING": login or home.login(),
        "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": ",".join(sorted(origins(settings))),
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_UI_URL": f"{settings.url}/v2",  # in links of notifications
        "PREFECT_SERVER_UI_API_URL": "/api",  # relative, so the page calls the host that it was loaded from
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(
            home.root / "ui"
        ),  # the package's own folder may belong to another user
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        "PREFECT_LOGGING_LEVEL": "WARNING",
    }


def client_environment(home: Home, settings: ServerSettings) -> dict[str, str]:
    """Variables that a client of the server needs in addition to its own environment."""
    trust = (
        {"PREFECT_API_SSL_CERT_FILE": str(settings.tls_certificate)} if is_self_signed(settings.tls_certificate) else {}
    )
    return {
        **QUIET,
        **trust,
        **without_proxy(settings),
        "PREFECT_HOME": str(home.prefect),
        "PREFECT_API_URL": f"{settings.url}/api",
        "PREFECT_API_AUTH_STRING": home.login(),
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S),
        "PREFECT_CLIENT_MAX_RETRIES": "8",  # the wait doubles from 2 s: the server may be down for minutes
    }


def without_proxy(settings: ServerSettings) -> dict[str, str]:
    """Makes clients reach the server without a proxy: a proxy would see the login and cannot reach this machine's loopback."""
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    names = [name for name in given.split(",") if name.strip()]
    host = urlsplit(settings.url).hostname or ""
    added = [name for name in ("127.0.0.1", "localhost", "::1", host) if name and name not in names]
    text = ",".join([*names, *dict.fromkeys(added)])
    return {"NO_PROXY": text, "no_proxy": text}


def worker_environment(home: Home, settings: ServerSettings) -> dict[str, str]:
    """The environment of a worker, which its flow runs inherit."""
    return {
        **{name: value for name, value in _inherited().items() if not DATABASE.fullmatch(name)},
        **client_environment(home, settings),
        MARK: str(home.root),
        "ALIGNFLOW_HOME": str(home.store),
        LOGS: str(home.run_logs),
        "PATH": os.pathsep.join(
            [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
        ),  # of the pool's command
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PREFECT_LOGGING_TO_API_ENABLED": "true",
        "PREFECT_LOGGING_LEVEL": "INFO",
    }


def with_driver(database: str) -> str:
    """A PostgreSQL URL with the driver that Prefect needs, and a login encoded so that every parser reads it the same way."""
    return encoded(database).replace("postgresql://", "postgresql+asyncpg://", 1)


def _inherited() -> dict[str, str]:
    """This process's environment without variables that name another server or a database, and with the working directory off the module search path."""
    kept = {name: value for name, value in os.environ.items() if name not in FOREIGN and name != "ALIGNFLOW_DATABASE"}
    if "PYTHONPATH" in kept:
        kept["PYTHONPATH"] = given_path(kept["PYTHONPATH"])
    return {**kept, **SAFE_PATH}


def trusted_certificate(settings: ServerSettings) -> Path | None:
    """The certificate that clients on this machine must be told to trust, because it is self-signed."""
    return settings.tls_certificate if is_self_signed(settings.tls_certificate) else None
