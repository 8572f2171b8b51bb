"""Slows down people who guess logins: the more wrong logins an address has sent, the longer each further attempt waits.

A delayed attempt is checked only after its wait, so neither a right nor a wrong guess gets an early answer. A
connection that has sent the right login once never waits again. On the loopback each user of the machine has a
separate account, so another user's attempts do not delay yours.
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
"""Wrong logins of one address that cause no wait: people mistype."""
FREE_OVERALL = 30
FIRST_WAIT_S = 0.25
LONGEST_WAIT_S = 4.0
LONGEST_WAIT_OVERALL_S = 1.0
FORGOTTEN_AFTER_S = 300.0
"""Seconds without a wrong login after which an address starts from zero again."""
MOST_WAITING = 32
"""Attempts of one address that may wait at a time; further ones get 429 at once, unchecked."""
MOST_KEPT = 4096
"""Addresses, and connections with a right login, that are remembered; the least recently used is forgotten first."""
EACH_LOGGED = 10
EVERYBODY = "everybody"


@dataclass
class Account:
    """The wrong logins of one address: how many, when the last one came, and how many attempts wait now."""

    wrong: int = 0
    last: float = 0.0
    waiting: int = 0


class Logins:
    """Checks the login of every request and websocket that sends one, before `app` does. Requests without one are left to `app`."""

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
        """The request with the checked login in the only spelling that Prefect accepts: it compares the scheme with `Basic` exactly."""
        header = b"Basic " + base64.b64encode(self._login)
        return {
            **scope,
            "headers": [(name, header if name == b"authorization" else value) for name, value in scope["headers"]],
        }

    async def verdict(self, scope: Scope, given: bytes) -> bool | None:
        """Whether `given` is the login, after the address's wait; None if too many of its attempts already wait."""
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
        """Seconds that the next attempt of an account waits; doubles with each wrong login, up to a limit."""
        if account.wrong and self._clock() - account.last > FORGOTTEN_AFTER_S:
            account.wrong = 0
        beyond = account.wrong - free
        return min(longest_s, FIRST_WAIT_S * 2 ** min(beyond, 30)) if beyond >= 0 else 0.0

    def _count(self, name: str, account: Account) -> None:
        for each in (account, self._everybody):
            each.wrong, each.last = each.wrong + 1, self._clock()
        if (
            account.wrong <= EACH_LOGGED or account.wrong & (account.wrong - 1) == 0
        ):  # then at powers of two, so that the log does not fill up
            print(f"wrong login from {name}, number {account.wrong}", file=sys.stderr, flush=True)


class _FirstMessage:
    """What a websocket receives. A wrong login is removed from its first message, and Prefect then closes it."""

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
    """The key by which attempts are counted: the address, the network of an IPv6 address, and on the loopback the user at the other end."""
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
    """The user id of the process at the other end of a loopback connection, or None if the system does not say.

    psutil names the process, and only root may see other users' processes; the kernel's table has the user id.
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
    """The login in the Authorization header; empty, which is never right, if there is not exactly one valid header."""
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
