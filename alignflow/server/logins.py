"""Slows down whoever tries logins: the more wrong ones came from an address, the longer each further try waits.

A try that has to wait is not checked before its time, whether it is right or wrong, so a guess tells nothing sooner. A
connection on which the right login was given once never waits again, and on the loopback each user of the machine has an
account of their own: what another user tries does not delay yours.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import ipaddress
import json
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignflow.server.guard import App, Receive, Scope, Send

FREE = 3
"""Wrong logins of one address that cost nothing: a person mistypes."""
FREE_OVERALL = 30
FIRST_WAIT_S = 0.25
LONGEST_WAIT_S = 4.0
LONGEST_WAIT_OVERALL_S = 1.0
FORGOTTEN_AFTER_S = 300.0
"""After so long without a wrong login an address begins anew."""
MOST_WAITING = 32
"""Tries of one address that may wait at a time; further ones are answered 429 at once, unchecked."""
MOST_KEPT = 4096
"""Addresses, and connections with a right login, that are remembered; the one that was used longest ago is forgotten first."""
EACH_LOGGED = 10
EVERYBODY = "everybody"


@dataclass
class Account:
    """The wrong logins of one address: how many, when the last one came, and how many tries wait now."""

    wrong: int = 0
    last: float = 0.0
    waiting: int = 0


class Logins:
    """Checks the login of every request and websocket that brings one, before `app` does; what brings none is left to `app`."""

    def __init__(
        self,
        app: App,
        login: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Any] = asyncio.sleep,
    ):
        self.app, self._login = app, login.encode()
        self._clock, self._sleep = clock, sleep
        self._accounts: OrderedDict[str, Account] = OrderedDict()
        self._everybody = Account()
        self._proven: OrderedDict[tuple[Any, ...], None] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "websocket":
            await self.app(scope, _FirstMessage(self, scope, receive), send)
            return
        given = (
            [value for name, value in scope["headers"] if name == b"authorization"] if scope["type"] == "http" else []
        )
        verdict = await self.verdict(scope, _of_header(given)) if given else True
        if verdict is None:
            await _refuse(send, 429, [(b"retry-after", str(round(LONGEST_WAIT_S)).encode())])
        elif not verdict:
            await _refuse(send, 401, [])
        else:
            await self.app(self._as_prefect_reads_it(scope) if given else scope, receive, send)

    def _as_prefect_reads_it(self, scope: Scope) -> Scope:
        """The request with the login that was checked, in the one spelling that Prefect accepts: it compares the scheme with `Basic` exactly."""
        header = b"Basic " + base64.b64encode(self._login)
        return {
            **scope,
            "headers": [(name, header if name == b"authorization" else value) for name, value in scope["headers"]],
        }

    async def verdict(self, scope: Scope, given: bytes) -> bool | None:
        """Whether `given` is the login, after the wait that the address has to take; None where too many tries of it wait."""
        connection = tuple(scope.get("client") or ())
        if connection in self._proven and hmac.compare_digest(given, self._login):
            self._proven.move_to_end(connection)
            return True
        self._proven.pop(connection, None)
        name = account_name(scope)
        account = self._account(name)
        if wait := max(
            self._wait(account, FREE, LONGEST_WAIT_S), self._wait(self._everybody, FREE_OVERALL, LONGEST_WAIT_OVERALL_S)
        ):
            if account.waiting >= MOST_WAITING:
                return None
            account.waiting += 1
            try:
                await self._sleep(wait)
            finally:
                account.waiting -= 1
        if hmac.compare_digest(given, self._login):
            self._proven[connection] = None
            _trim(self._proven)
            return True
        self._count(name, account)
        return False

    def _account(self, name: str) -> Account:
        account = self._accounts.setdefault(name, Account())
        self._accounts.move_to_end(name)
        _trim(self._accounts)
        return account

    def _wait(self, account: Account, free: int, longest_s: float) -> float:
        """Seconds that the next try of an account waits; doubles with each wrong one, up to a limit."""
        if account.wrong and self._clock() - account.last > FORGOTTEN_AFTER_S:
            account.wrong = 0
        beyond = account.wrong - free
        return min(longest_s, FIRST_WAIT_S * 2 ** min(beyond, 30)) if beyond >= 0 else 0.0

    def _count(self, name: str, account: Account) -> None:
        for each in (account, self._everybody):
            each.wrong, each.last = each.wrong + 1, self._clock()
        if (
            account.wrong <= EACH_LOGGED or account.wrong & (account.wrong - 1) == 0
        ):  # then at powers of two: a log must not fill up
            print(f"wrong login from {name}, number {account.wrong}", file=sys.stderr, flush=True)


class _FirstMessage:
    """What a websocket receives; a wrong login in its first message is taken out, whereupon Prefect closes it."""

    def __init__(self, logins: Logins, scope: Scope, receive: Receive):
        self._logins, self._scope, self._receive = logins, scope, receive
        self._seen = False

    async def __call__(self) -> Any:
        message = await self._receive()
        if self._seen or message["type"] != "websocket.receive":
            return message
        self._seen = True
        try:
            document = json.loads(message.get("text") or message.get("bytes") or "")
        except (ValueError, RecursionError):
            return message
        if not isinstance(document, dict) or not document.get("token"):
            return message
        if await self._logins.verdict(self._scope, str(document["token"]).encode("utf-8", "surrogatepass")):
            return message
        return {"type": "websocket.receive", "text": json.dumps({"type": "auth", "token": ""})}


def account_name(scope: Scope) -> str:
    """By what tries are counted: the address, the network of an IPv6 address, and on the loopback the user at the other end."""
    host, port = (*(scope.get("client") or ("unknown", 0)),)[:2]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return str(host)
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_loopback:
        user = user_of(port, (scope.get("server") or ("", 0))[1])
        return f"{address}" if user is None else f"{address} (user {user})"
    if address.version == 6:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def user_of(port: int, server_port: int | None) -> int | None:
    """The user id of the process at the other end of a connection over the loopback; None where the system does not say.

    psutil would name the process, and that of another user to root alone; the kernel's table has the user himself.
    """
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            local, remote = (int(place.rpartition(":")[2], 16) for place in fields[1:3])
            if local == port and remote == server_port:
                return int(fields[7])
    return None


def _of_header(given: list[bytes]) -> bytes:
    """The login in the one Authorization header; empty, which is never right, for anything else."""
    scheme, _, coded = given[0].partition(b" ")
    if len(given) != 1 or scheme.lower() != b"basic":  # the name of a scheme may be written in any case
        return b""
    try:
        return base64.b64decode(coded.strip(), validate=True)
    except ValueError:
        return b""


def _trim(kept: OrderedDict[Any, Any]) -> None:
    while len(kept) > MOST_KEPT:
        kept.popitem(last=False)


async def _refuse(send: Send, status: int, headers: list[tuple[bytes, bytes]]) -> None:
    text = {401: "Unauthorized", 429: "too many wrong logins: try again later"}[status]
    body = json.dumps({"exception_message": text}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
