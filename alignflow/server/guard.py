"""What stands before Prefect's app: the check of the Host header, and headers that keep the browser from other hosts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

POLICY = {
    "default-src": "'self'",
    "connect-src": "'self'",
    "img-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "style-src": "'self' 'unsafe-inline'",
    "script-src": "'self' 'unsafe-eval'",  # the graph of a run is drawn by pixi.js, which compiles functions; no inline script, no other host
    "worker-src": "'self' blob:",
    "object-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}
"""What Prefect's pages need, and nothing of another host: not its telemetry, not an image in a model's text."""

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

DESCRIPTIONS = ("/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc")
"""What FastAPI adds to Prefect's apps, and answers without a login: descriptions of the API, with Prefect's version."""


def policy(host: str, scheme: str) -> str:
    """The content security policy of a page that was asked for under `host`; its websockets go to the same host."""
    socket = f"{'wss' if scheme == 'https' else 'ws'}://{host}"
    rules = {**POLICY, "connect-src": f"{POLICY['connect-src']} {socket}"}
    return "; ".join(f"{name} {value}" for name, value in rules.items())


class Guard:
    """Refuses a foreign Host with 421 and descriptions of the API with 404, and adds the headers to every response of `app`."""

    def __init__(self, app: App, is_answered: Callable[[str], bool]):
        self.app, self.is_answered = app, is_answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
        if not self.is_answered(host):
            await _refuse(scope["type"], 421, b"this server does not answer to that name\n", send)
            return
        if scope["path"].rstrip("/\n") in DESCRIPTIONS:  # a route's pattern matches before a last newline too
            await _refuse(scope["type"], 404, b"not here\n", send)
            return
        secured = {**HEADERS, "Content-Security-Policy": policy(host, scope["scheme"].replace("ws", "http"))}
        added = [(name.lower().encode(), value.encode()) for name, value in secured.items()]
        replaced = {name for name, _ in added}

        async def send_secured(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                kept = [(name, value) for name, value in message.get("headers", ()) if name.lower() not in replaced]
                message = {**message, "headers": [*kept, *added]}
            await send(message)

        await self.app(scope, receive, send_secured)


async def _refuse(kind: str, status: int, text: bytes, send: Send) -> None:
    if kind == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(text)).encode()), (b"x-content-type-options", b"nosniff")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})
