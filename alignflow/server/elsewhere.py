"""A server that this machine does not run: where it is, and what can be known of it from here."""

from __future__ import annotations

import os
import socket
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from alignflow.server.api import Api
from alignflow.server.errors import ServerError
from alignflow.server.layout import Home
from alignflow.server.settings import ServerSettings

VARIABLE, LOGIN = "PREFECT_API_URL", "PREFECT_API_AUTH_STRING"
CERTIFICATE = "PREFECT_API_SSL_CERT_FILE"
PROFILE = "the active Prefect profile"
NO_LOGIN = ":"
"""An empty login: the store's own is for no other server."""
PATH = "/api"
RUN_STATES = {"running": "RUNNING", "pending": "PENDING", "paused": "PAUSED"}


@dataclass(frozen=True)
class Elsewhere:
    """A server elsewhere.

    Attributes:
        url: Its address without `/api`, where it ends so.
        why: What says that it is there.
        of_store: Whether it is that of the store, whose login is in the store.
        addressed: Whether its address is that of an API of our kind, which ends in `/api`.
    """

    url: str
    why: str
    of_store: bool = False
    addressed: bool = True


@dataclass
class Seen:
    """What a server elsewhere says.

    Attributes:
        problem: Why it is not healthy; empty where it answers, and lets us look.
        pools: Work pool -> its record.
        workers: Work pool -> names of the workers that are online.
        deployments: How many it has, and `runs`: state -> flow runs; None where it does not say.
    """

    problem: str = ""
    pools: dict[str, dict[str, Any]] = field(default_factory=dict)
    workers: dict[str, list[str]] = field(default_factory=dict)
    deployments: int | None = None
    runs: dict[str, int] | None = None


def named_server() -> tuple[str, str]:
    """The address that the environment or the active Prefect profile gives, and which of them; two empty texts where neither does."""
    if url := os.environ.get(VARIABLE):
        return url, VARIABLE
    url = _active_profile().get(VARIABLE, "")
    return (url, PROFILE) if url else ("", "")


def _active_profile() -> dict[str, str]:
    """The settings of the active Prefect profile; none where there is no such file, or it cannot be read."""
    home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect")
    file = Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
        profile = found["profiles"][os.environ.get("PREFECT_PROFILE") or found["active"]]
        return {name: value for name, value in profile.items() if isinstance(value, str)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def server_elsewhere(home: Home, settings: ServerSettings, ours_runs: bool) -> Elsewhere | None:
    """The server elsewhere that commands of this machine use; None where there is none.

    Args:
        home: Of the store.
        settings: What the store remembers of its server.
        ours_runs: Whether this machine runs the server of the store.
    """
    url, by = named_server()
    if url and base_of(url) != settings.url:
        return Elsewhere(base_of(url), f"{by} names it", addressed=url.rstrip("/").endswith(PATH))
    if ours_runs or not home.login_file.exists():
        return None
    if not is_here(settings):
        return Elsewhere(settings.url, "the store's settings name another machine", of_store=True)
    if _lets_us_in(Api(home, settings, timeout_s=5)):
        return Elsewhere(settings.url, "it answers there, and this machine did not start it", of_store=True)
    return None


def _lets_us_in(api: Api) -> bool:
    """Whether a server answers and takes the login: on an address of this machine another program's may listen."""
    try:
        return api.answers() and api.get("/admin/version") is not None
    except ServerError:
        return False


def base_of(url: str) -> str:
    """An address of a server's API without the path that `Api` adds."""
    return url.rstrip("/").removesuffix(PATH)


def is_here(settings: ServerSettings) -> bool:
    """Whether the address that the server listens on is one of this machine; a name that cannot be looked up is not."""
    if settings.loopback or settings.wildcard:
        return True
    own = {address.address.partition("%")[0] for found in psutil.net_if_addrs().values() for address in found}
    try:
        addresses = {str(info[4][0]) for info in socket.getaddrinfo(settings.host, None)}
    except OSError:
        return False
    return bool(addresses & own)


def look(home: Home, settings: ServerSettings, found: Elsewhere, timeout_s: float = 5) -> Seen:
    """Ask a server elsewhere how it is and, as far as it lets us, what it has. Changes nothing."""
    if not found.addressed:
        return Seen("its address does not end in /api, so status cannot ask it: it is Prefect Cloud, or a mistake")
    api = _api(home, settings, found, timeout_s)
    if not api.answers():
        return Seen("does not answer this machine")
    seen = Seen()
    try:
        for pool in api.post("/work_pools/filter", {}) or []:
            seen.pools[pool["name"]] = pool
            workers = api.post(f"/work_pools/{pool['name']}/workers/filter", {}) or []
            seen.workers[pool["name"]] = [worker["name"] for worker in workers if worker["status"] == "ONLINE"]
        seen.deployments, seen.runs = api.post("/deployments/count", {}), run_counts(api)
    except ServerError as error:
        seen.problem = f"answers, but does not let status look: {error.what}"
    return seen


def run_counts(api: Api) -> dict[str, int]:
    """State -> flow runs of a server that are in it. Raises ServerError."""
    return {
        name: api.post("/flow_runs/count", {"flow_runs": {"state": {"type": {"any_": [state]}}}})
        for name, state in RUN_STATES.items()
    }


def _api(home: Home, settings: ServerSettings, found: Elsewhere, timeout_s: float) -> Api:
    """A client of it. The login of the store is sent to the server of the store alone."""
    if found.of_store:
        return Api(home, settings, timeout_s)
    certificate = os.environ.get(CERTIFICATE)
    login = os.environ.get(LOGIN) or _active_profile().get(LOGIN) or NO_LOGIN
    trusted = ServerSettings(tls_certificate=Path(certificate) if certificate else None)
    return Api(home, trusted, timeout_s, found.url, login)
