"""What stands before Prefect's app for its pages: a request that met a busy database is made again.

On SQLite, Prefect 3.8 reads in a transaction and then writes in it. Where another one wrote in between, the second fails
at once, however long it could have waited, and the answer is 503: nothing was done, ask again. Prefect's client does ask
again; its pages show "Unknown error while creating flow run" (seen at two of three forms on a machine with other work).
"""

from __future__ import annotations

import asyncio
from typing import Any

from alignflow.server.guard import App, Receive, Scope, Send

BUSY = 503
WAITS_S = (0.1, 0.2, 0.4, 0.8, 1.6)
"""How long to wait before each further try."""
LARGEST_BODY = 1 << 20
"""Bytes of a request that is kept to be made again; a larger one is no form's, and its client has patience of its own."""


class Retries:
    """Makes a request to `app` again while the answer is that its database is busy."""

    def __init__(self, app: App, waits_s: tuple[float, ...] = WAITS_S):
        self.app, self._waits_s = app, waits_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = _Body(receive)
        for wait in self._waits_s:
            answer = _Answer(send)
            failure = None
            try:
                await self.app({**scope}, body.receive, answer.send)
            except Exception as error:  # noqa: BLE001 (Starlette raises, for the log, what it has answered already)
                failure = error
            if answer.busy and body.whole:
                body.rewind()
                await asyncio.sleep(wait)
                continue
            await answer.hand_on()
            if failure:
                raise failure
            return
        await self.app(scope, body.receive, send)


class _Body:
    """The messages of a request, kept so that they can be received again."""

    def __init__(self, receive: Receive):
        self._receive = receive
        self._kept: list[Any] = []
        self._place, self._size, self._ended = 0, 0, False

    @property
    def whole(self) -> bool:
        """Whether all that was received can be received again."""
        return self._size <= LARGEST_BODY

    def rewind(self) -> None:
        """Begin again with the first message."""
        self._place = 0

    async def receive(self) -> Any:
        """The next message: a kept one, then what comes."""
        if self._place < len(self._kept):
            self._place += 1
            return self._kept[self._place - 1]
        message = await self._receive()
        if not self._ended and message["type"] == "http.request":
            self._size += len(message.get("body", b""))
            self._ended = not message.get("more_body", False)
            if self.whole:
                self._kept.append(message)
                self._place += 1
            else:
                self._kept.clear()
        return message


class _Answer:
    """What an app answers: handed on at once, unless it says that the database is busy."""

    def __init__(self, send: Send):
        self._send = send
        self._held: list[Any] = []
        self.busy = False

    async def send(self, message: Any) -> None:
        """Take one message of the app."""
        if message["type"] == "http.response.start":
            self.busy = message["status"] == BUSY
        if self.busy:
            self._held.append(message)
        else:
            await self._send(message)

    async def hand_on(self) -> None:
        """Send what was held back."""
        for message in self._held:
            await self._send(message)
