"""Checks the Host and Origin headers before Prefect's app, and adds headers that keep the browser from contacting other hosts."""

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
    "script-src": "'self' 'unsafe-eval'",  # pixi.js draws the graph of a run and compiles functions; no inline script, no other host
    "worker-src": "'self' blob:",
    "object-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}
"""Only what Prefect's pages need, and nothing from another host: no telemetry, no image in a model's text."""

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

DESCRIPTIONS = ("/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc")
"""Routes that FastAPI adds to Prefect's apps and serves without a login: descriptions of the API, with Prefect's version."""


def policy(host: str, scheme: str) -> str:
    """The content security policy of a page served under `host`; its websockets go to the same host."""
    socket = f"{'wss' if scheme == 'https' else 'ws'}://{host}"
    rules = {**POLICY, "connect-src": f"{POLICY['connect-src']} {socket}"}
    return "; ".join(f"{name} {value}" for name, value in rules.items())


class Guard:
    """Refuses a wrong Host (421), a foreign Origin (403) and descriptions of the API (404); adds the headers to every response of `app`.

    A browser sends the page that makes a request in the Origin header. The check covers websockets too, which neither CORS nor
    CSRF protection covers.

    Args:
        app: Answers the requests that pass.
        is_answered: Whether the server accepts a Host header.
        is_own_origin: Whether pages of an origin may call the server; takes the origin and the Host header.
    """

    def __init__(self, app: App, is_answered: Callable[[str], bool], is_own_origin: Callable[[str, str], bool]):
        self.app, self.is_answered, self.is_own_origin = app, is_answered, is_own_origin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
        if not self.is_answered(host):
            await _refuse(scope["type"], 421, b"this server does not accept that Host header\n", send)
            return
        origins = [value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"]
        if not all(self.is_own_origin(origin, host) for origin in origins):
            await _refuse(scope["type"], 403, b"pages of other sites may not call this server\n", send)
            return
        if scope["path"].rstrip("/\n") in DESCRIPTIONS:  # a route's pattern also matches with a newline at the end
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
    headers = [
        (b"content-type", b"text/plain"),
        (b"content-length", str(len(text)).encode()),
        (b"x-content-type-options", b"nosniff"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})
