"""Settings of `alignflow up` (address, TLS, database, pools) and the checks that refuse unsafe ones."""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from alignflow.data.errors import UserError
from alignflow.server.tls import is_for

SQLITE = "sqlite"
POSTGRESQL = re.compile(r"postgresql(\+asyncpg)?://")
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
PLACE = re.compile(r"([A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(:\d+)?(,[A-Za-z0-9._-]+(:\d+)?)*(/[A-Za-z0-9._-]*)?")
"""Hosts, ports and the database's name in a URL; anything else could be part of a password."""
OPTIONS = re.compile(r"\?[A-Za-z_]+=")
ADDRESS = ("host", "insecure", "tls_certificate", "tls_key")
"""Settings that belong together: setting one resets the others."""


class ServerSettings(BaseModel):
    """The address of a store's server and its database. Remembered in the home."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=4200, ge=1, le=65535, description="Port to listen on.")
    database: str = Field(
        default=SQLITE, description="`sqlite`, in the store, or postgresql://user:password@host/name."
    )
    insecure: bool = Field(default=False, description="Listen on an address that others reach, without TLS.")
    tls_certificate: Path | None = Field(default=None, description="Certificate chain in PEM.")
    tls_key: Path | None = Field(default=None, description="Private key of the certificate in PEM.")
    allowed_hosts: tuple[str, ...] = Field(
        default=(), description="Further host names that the server accepts, such as a proxy's."
    )
    gpu_pool: bool = Field(default=False, description="A separate pool for stages that need a GPU, one run at a time.")

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        address = _as_address(self.host)
        return address.is_loopback if address else self.host == "localhost"

    @property
    def wildcard(self) -> bool:
        """Whether it listens on every address of the machine."""
        address = _as_address(self.host)
        return bool(address and address.is_unspecified)

    @property
    def scheme(self) -> str:
        """`https` with a certificate, otherwise `http`."""
        return "https" if self.tls_certificate else "http"

    @property
    def url(self) -> str:
        """The server's URL for clients and browsers on this machine."""
        if not self.wildcard:
            return f"{self.scheme}://{in_url(self.host)}:{self.port}"
        return f"{self.scheme}://{socket.gethostname() if self.tls_certificate else '127.0.0.1'}:{self.port}"

    @property
    def shown_database(self) -> str:
        """The database in a form that is safe to show: kind, host and name, without user, password and options."""
        return shown(self.database)


def shown(database: str) -> str:
    """A database's URL without possible secrets. Text that is not a URL is not shown at all.

    A password may hold any character, even a raw `@`, `/` or `?`, so the host starts after the last `@`.
    """
    if database == SQLITE:
        return database
    scheme, separator, rest = database.partition("://")
    if not separator or not SCHEME.fullmatch(scheme):
        return "***"
    user, at, place = rest.rpartition("@")
    if "?" in user:  # a raw `?` in a password, or a raw `@` in an option: the rest may be part of either
        return f"{scheme}://***"
    place, mark, _ = place.partition("?")
    return f"{scheme}://{'***@' if at else ''}{place if PLACE.fullmatch(place) else '***'}{'?***' if mark else ''}"


def without_secrets(text: str, database: str) -> str:
    """A text, such as an error of the database's driver, with the database's URL and every part of its login removed."""
    user_info, _, place = _login_and_place(database.partition("://")[2])
    _, _, password = user_info.partition(":")
    secrets = [
        database,
        database.partition("://")[2],
        user_info,
        password,
        unquote(password),
        unquote(user_info),
        encoded(database),
    ]
    secrets += [
        value
        for pair in place.partition("?")[2].split("&")
        if "pass" in pair.partition("=")[0].lower()
        for value in _both(pair)
    ]
    for secret in sorted({each for each in secrets if each and each != SQLITE}, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _login_and_place(rest: str) -> tuple[str, str, str]:
    """The part after `://`, split at the last `@` that is not in the options. A `?` starts options if a name and `=` follow it."""
    options = OPTIONS.search(rest)
    head = rest[: options.start()] if options else rest
    user_info, at, place = head.rpartition("@")
    return user_info, at, place + rest[len(head) :]


def _both(pair: str) -> tuple[str, str]:
    value = pair.partition("=")[2]
    return value, unquote(value)


def encoded(database: str) -> str:
    """A database's URL with reserved characters in user and password percent-encoded, so that every parser reads them the same way."""
    scheme, separator, rest = database.partition("://")
    user_info, at, place = _login_and_place(rest)
    user, colon, password = user_info.partition(":")
    return f"{scheme}{separator}{quote(user, safe='%')}{colon}{quote(password, safe='%')}{at}{place}"


def _as_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def in_url(host: str) -> str:
    """A host as written in a URL: an IPv6 address gets brackets."""
    return f"[{host}]" if ":" in host else host


def changed(remembered: ServerSettings, given: dict[str, Any]) -> ServerSettings:
    """The remembered settings, updated with the given ones (None: not given).

    Address, TLS and `insecure` belong together: setting one resets the others, so that an address that was once
    allowed without TLS is not opened by accident later.

    Raises:
        UserError: a value is out of bounds, or `check` refuses the settings.
    """
    given = {name: value for name, value in given.items() if value is not None}
    kept = remembered.model_dump()
    if given.keys() & set(ADDRESS):
        kept = {name: value for name, value in kept.items() if name not in ADDRESS}
    try:
        settings = ServerSettings.model_validate({**kept, **given})
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            f"{first['input']!r}: {first['msg']}", where=f"--{str(first['loc'][0]).replace('_', '-')}"
        ) from None
    check(settings)
    return settings


def check(settings: ServerSettings) -> None:
    """Refuse what is unsafe or cannot work.

    Raises:
        UserError: an address that others can reach without TLS or `insecure`; only one of the two TLS files; a certificate for other names;
            an unknown database.
    """
    certificate, key = settings.tls_certificate, settings.tls_key
    if bool(certificate) != bool(key):
        raise UserError(
            "TLS needs both files", where="--tls-certificate, --tls-key", do="pass the certificate and its private key"
        )
    for option, path in (("--tls-certificate", certificate), ("--tls-key", key)):
        if path and not path.is_file():
            raise UserError("no such file", where=f"{option} {path}", do="pass a PEM file")
    name = urlsplit(settings.url).hostname or ""
    if certificate and not is_for(certificate, name):
        raise UserError(
            f"the certificate is not valid for {name}, the name that commands on this machine use for the server",
            where=f"--tls-certificate {certificate}",
            do="pass a certificate that has this name in subjectAltName",
        )
    if not settings.loopback and not certificate and not settings.insecure:
        raise UserError(
            "other machines can reach this address, and the login and all data would cross the network unencrypted",
            where=f"--host {settings.host}",
            do="pass --tls-certificate and --tls-key, or --insecure if you trust the network",
        )
    if settings.database != SQLITE and not POSTGRESQL.match(settings.database):
        raise UserError(
            "unknown kind of database",
            where=f"--database {settings.shown_database}",
            do="pass `sqlite`, or postgresql://user:password@host/name",
        )


def check_port(settings: ServerSettings) -> None:
    """Raise UserError, with a free port to use, if another program listens on the port or the address is not this machine's."""
    problem = _bind_error(settings.host, settings.port)
    if problem is None:
        return
    where = f"{in_url(settings.host)}:{settings.port}"
    if isinstance(problem, socket.gaierror) or problem.errno == errno.EADDRNOTAVAIL:
        raise UserError(
            "this machine has no such address", where=where, do="pass one of this machine's addresses with --host"
        )
    if isinstance(problem, PermissionError):
        raise UserError("you may not listen on this port", where=where, do="pass a port from 1024 on with --port")
    free = next(
        (
            port
            for port in range(settings.port + 1, min(settings.port + 100, 65536))
            if not _bind_error(settings.host, port)
        ),
        None,
    )
    raise UserError(
        "another program listens on this port",
        where=where,
        do=f"choose another port, for example --port {free}" if free else "choose another --port",
    )


def _bind_error(host: str, port: int) -> OSError | None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as attempt:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            attempt.bind(address)
    except OSError as error:
        return error
    return None
