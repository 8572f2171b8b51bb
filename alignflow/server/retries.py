"""Repeats a request to Prefect's app when the database was busy.

On SQLite, Prefect 3.8 reads in a transaction and then writes in it. If another transaction wrote in between, the write fails
at once, whatever the timeout, and the answer is 503: nothing was done, try again. Prefect's client does try
again, but its pages show "Unknown error while creating flow run" (seen at two of three forms on a busy machine).
"""

from __future__ import annotations

import asyncio
from typing import Any

from alignflow.server.guard import App, Receive, Scope, Send

BUSY = 503
WAITS_S = (0.1, 0.2, 0.4, 0.8, 1.6)
"""Seconds to wait before each further attempt."""
LARGEST_BODY = 1 << 20
"""Largest request in bytes that is kept for another attempt. A larger one does not come from a form, and its client retries by itself."""


class Retries:
    """Repeats a request to `app` while the answer says that the database is busy."""

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
            except Exception as error:  # noqa: BLE001 (Starlette re-raises an error that it has answered, for the log)
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
    """The messages of a request, kept for another attempt."""

    def __init__(self, receive: Receive):
        self._receive = receive
        self._kept: list[Any] = []
        self._place, self._size, self._ended = 0, 0, False

    @property
    def whole(self) -> bool:
        """Whether everything received can be replayed."""
        return self._size <= LARGEST_BODY

    def rewind(self) -> None:
        """Start again with the first message."""
        self._place = 0

    async def receive(self) -> Any:
        """The next message: kept ones first, then new ones."""
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
    """An app's answer: passed on at once, unless it says that the database is busy."""

    def __init__(self, send: Send):
        self._send = send
        self._held: list[Any] = []
        self.busy = False

    async def send(self, message: Any) -> None:
        """Take one message from the app."""
        if message["type"] == "http.response.start":
            self.busy = message["status"] == BUSY
        if self.busy:
            self._held.append(message)
        else:
            await self._send(message)

    async def hand_on(self) -> None:
        """Send the messages that were held back."""
        for message in self._held:
            await self._send(message)
