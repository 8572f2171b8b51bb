"""A small client of the server's REST API for the commands, so that they need not import Prefect."""

from __future__ import annotations

import ssl
import time
import uuid
from pathlib import Path
from typing import Any

import httpx

from alignflow.server.environment import trusted_certificate
from alignflow.server.errors import ServerError
from alignflow.server.layout import Home
from alignflow.server.settings import ServerSettings

TRIES = 4
BUSY = (502, 503)


class Api:
    """Calls the server of a home with its login, or with `login` if given.

    Raises:
        ServerError: nothing answers, the answer is an error, or the server refuses the login.
    """

    def __init__(self, home: Home, settings: ServerSettings, timeout_s: float = 15, url: str = "", login: str = ""):
        user, _, password = (login or home.login()).partition(":")
        self.url = f"{url.rstrip('/') or settings.url}/api"
        self._client = httpx.Client(
            base_url=self.url,
            auth=(user, password),
            timeout=timeout_s,
            verify=verification(trusted_certificate(settings)),
            trust_env=False,
        )
        self._client_id = str(uuid.uuid4())
        self._token = ""

    def get(self, path: str) -> Any:
        """The answer to a GET, or None for 404."""
        return self._send("GET", path, None)

    def post(self, path: str, body: Any) -> Any:
        """The answer to a POST."""
        return self._send("POST", path, body)

    def put(self, path: str, body: Any) -> Any:
        """The answer to a PUT."""
        return self._send("PUT", path, body)

    def patch(self, path: str, body: Any) -> Any:
        """The answer to a PATCH."""
        return self._send("PATCH", path, body)

    def answers(self) -> bool:
        """Whether a healthy server answers. Asks once, without the login."""
        try:
            return self._client.get("/health", auth=None).status_code == 200
        except httpx.HTTPError:
            return False

    def _send(self, method: str, path: str, body: Any) -> Any:
        headers = {} if method == "GET" else self._csrf()
        for attempt in range(1, TRIES + 1):
            try:
                response = self._client.request(method, path, json=body, headers=headers)
            except httpx.HTTPError as error:
                if attempt == TRIES:
                    raise ServerError(
                        f"the server does not answer ({error})", where=self.url, do="`alignflow status` shows why"
                    ) from None
            else:
                if response.status_code not in BUSY or attempt == TRIES:
                    return self._read(response, path)
            time.sleep(0.3 * attempt)
        raise AssertionError

    def _csrf(self) -> dict[str, str]:
        if not self._token:
            self._token = self.get(f"/csrf-token?client={self._client_id}")["token"]
        return {"Prefect-Csrf-Token": self._token, "Prefect-Csrf-Client": self._client_id}

    def _read(self, response: httpx.Response, path: str) -> Any:
        if response.status_code == 404:
            return None
        if response.status_code == 401:
            raise ServerError(
                "the server refuses this store's login", where=self.url, do="another program's server may listen there"
            )
        if response.is_error:
            raise ServerError(
                f"the server answers {response.status_code}: {response.text[:500]}", where=f"{self.url}{path}"
            )
        return response.json() if response.content else None


def verification(certificate: Path | None) -> ssl.SSLContext:
    """How a client verifies the server's certificate: against this file, or with the system's certificates."""
    return ssl.create_default_context(cafile=certificate and str(certificate))
