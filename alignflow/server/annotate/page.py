"""Serves the page on the loopback interface only. The address holds a random token, and requests from pages of other sites are refused."""

from __future__ import annotations

import hmac
import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader

from alignflow.data.annotation.answers import Session

MOST_BYTES = 16_384
"""Limit for the body of a request; a note is about a sentence."""
MOST_NOTE = 4_000
PAGE = "page.html.j2"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class AnnotationServer(ThreadingHTTPServer):
    """The page of one session.

    Args:
        session: The session whose pairs the page shows.
        port: Port on the loopback interface; 0 picks a free one.

    Attributes:
        url: The address with its token. Whoever has it can label.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, session: Session, port: int = 0):
        super().__init__(("127.0.0.1", port), Handler)
        self.session, self.token = session, secrets.token_urlsafe(24)
        self.lock = threading.Lock()
        self.shown: tuple[str, float] = ("", time.monotonic())
        own = self.server_address[1]
        self.hosts = {f"127.0.0.1:{own}", f"localhost:{own}"}
        self.url = f"http://127.0.0.1:{own}/{self.token}/"

    def state(self) -> dict[str, Any]:
        """What the page shows. The clock of a pair starts when the page first asks for it."""
        with self.lock:
            found = self.session.state()
            item = found["pair"]["item"] if found["pair"] else ""
            if item != self.shown[0]:
                self.shown = item, time.monotonic()
            return found

    def take(self, content: dict[str, Any]) -> None:
        """Save an answer from the page; raises ValueError if it does not match the pair on display."""
        with self.lock:
            item, since = self.shown
            note = content.get("note", "")
            if content.get("item") != item or not isinstance(note, str) or len(note) > MOST_NOTE:
                raise ValueError("the page shows another pair")
            self.session.answer(item, str(content.get("choice")), time.monotonic() - since, note.strip())

    def undo(self) -> None:
        """Undo the last answer."""
        with self.lock:
            self.session.undo()
            self.shown = "", time.monotonic()


class Handler(BaseHTTPRequestHandler):
    """One request. A wrong Host, Origin or token is refused before anything is read."""

    server: AnnotationServer
    server_version, sys_version = "alignflow", ""
    protocol_version = "HTTP/1.1"
    timeout = 30

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the address holds the token."""

    def do_GET(self) -> None:
        """Return the page, or the next pair."""
        place = self._place()
        if place == "":
            self._page()
        elif place == "state":
            self._json(200, self.server.state())
        elif place is not None:
            self._refuse(404, "not here")

    def do_POST(self) -> None:
        """Take an answer, or undo the last one; only from the page itself."""
        place = self._place()
        if place is None or not self._is_own():
            return
        content = self._content()
        if content is None:
            return
        if place == "answer":
            try:
                self.server.take(content)
            except ValueError as error:
                self._refuse(409, str(error))
                return
        elif place == "undo":
            self.server.undo()
        else:
            self._refuse(404, "not here")
            return
        self._json(200, self.server.state())

    def _place(self) -> str | None:
        """The path below the token, or None if the request was refused."""
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or hosts[0].lower() not in self.server.hosts:
            self._refuse(421, "this server does not accept that Host header")
            return None
        token, _, place = urlsplit(self.path).path.removeprefix("/").partition("/")
        if not hmac.compare_digest(token.encode(), self.server.token.encode()):
            self._refuse(404, "not found: open the address that the command printed")
            return None
        return place

    def _is_own(self) -> bool:
        """Whether the request comes from this very page; browsers send the Origin with every POST."""
        origins = self.headers.get_all("Origin") or []
        if origins != [f"http://{self.headers['Host'].lower()}"]:
            self._refuse(403, "pages of other sites may not call this server")
            return False
        if self.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
            self._refuse(403, "pages of other sites may not call this server")
            return False
        if self.headers.get_content_type() != "application/json":
            self._refuse(415, "JSON only")
            return False
        return True

    def _content(self) -> dict[str, Any] | None:
        """The request's JSON object, or None if the request was refused."""
        length = self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers or not length.isdecimal():
            self._refuse(411, "the request has no Content-Length")
            return None
        if int(length) > MOST_BYTES:
            self._refuse(413, "too much")
            return None
        try:
            content = json.loads(self.rfile.read(int(length)) or b"{}")
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            self._refuse(400, "the body is not a JSON object")
            return None
        return content

    def _page(self) -> None:
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
        content = environment.get_template(PAGE).render(nonce=nonce)
        self._send(200, content.encode(), "text/html; charset=utf-8", {"Content-Security-Policy": policy})

    def _json(self, status: int, content: dict[str, Any]) -> None:
        self._send(status, json.dumps(content).encode(), "application/json")

    def _refuse(self, status: int, why: str) -> None:
        """Refuse and close the connection, because an unread body may be left in it."""
        self.close_connection = True
        self._send(status, f"{why}\n".encode(), "text/plain; charset=utf-8", {"Connection": "close"})

    def _send(self, status: int, content: bytes, kind: str, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {
            **HEADERS,
            **(more or {}),
            "Content-Type": kind,
            "Content-Length": str(len(content)),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
