"""The host names that the server accepts. A page elsewhere can point its own name at this machine, but cannot make us accept it."""

from __future__ import annotations

import functools
import ipaddress
import socket

from alignflow.server.settings import ServerSettings, in_url
from alignflow.server.tls import names_in

LOOPBACK = ("127.0.0.1", "localhost", "::1")
DEFAULT_PORTS = {"http": 80, "https": 443}


@functools.lru_cache
def hosts(settings: ServerSettings) -> frozenset[str]:
    """The accepted values of the Host header."""
    named = [*LOOPBACK, settings.host, *names_in(settings.tls_certificate)]
    if settings.wildcard:
        named.append(socket.gethostname())
    found = {f"{in_url(name)}:{settings.port}" for name in named}
    if DEFAULT_PORTS[settings.scheme] == settings.port:
        found |= {in_url(name) for name in named}
    return frozenset(host.lower() for host in (*found, *settings.allowed_hosts))


def origins(settings: ServerSettings) -> frozenset[str]:
    """The origins whose pages may call the API: the server's own."""
    proxied = {f"{scheme}://{name.lower()}" for name in settings.allowed_hosts for scheme in DEFAULT_PORTS}
    return frozenset(f"{settings.scheme}://{host}" for host in hosts(settings)) | proxied


def is_own_origin(origin: str, host: str, settings: ServerSettings) -> bool:
    """Whether a page of this origin may call the server: only its own pages, under the Host that they were loaded from."""
    return origin.lower() in origins(settings) or origin.lower() == f"{settings.scheme}://{host.lower()}"


def is_answered(host: str, settings: ServerSettings) -> bool:
    """Whether a request with this Host header is for this server.

    A server that listens on all addresses also accepts bare IP addresses: others can point a name here, but not an
    address.
    """
    if host.lower() in hosts(settings):
        return True
    name, _, port = host.rpartition(":")
    if not settings.wildcard or port != str(settings.port):
        return False
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True
