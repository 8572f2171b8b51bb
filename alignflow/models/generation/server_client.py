"""One request to one of several addresses, through the openai client: retried if that may help, otherwise a clear error."""

from __future__ import annotations

import email.utils
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from alignflow.data.configs.server import LOOPBACK, ServerOptions
from alignflow.data.errors import ModelError, cut

MOST_BYTES = 1 << 24  # largest reply
LONGEST_PAUSE_S = 60.0
LONGEST_RETRY_AFTER_S = 600.0
LEFT_OUT_S = 30.0
_WHERE = "generator.options.urls"
_QUOTA = ("insufficient_quota", "billing_hard_limit_reached", "quota_exceeded", "credit balance")
_TOO_LONG = (
    "maximum context length",
    "context_length_exceeded",
    "max_model_len",
    "context window",
    "prompt is too long",
)
logging.getLogger("httpx2").setLevel(logging.WARNING)


class PassingError(Exception):
    """A failure that a retry may fix; `retry_after_s` is the wait that the endpoint asks for."""

    def __init__(self, text: str, retry_after_s: float | None = None, lost: bool = False):
        super().__init__(text)
        self.retry_after_s, self.lost = retry_after_s, lost


class TooLongError(Exception):
    """The question does not fit the model's context."""


class RefusedError(Exception):
    """The endpoint does not understand the request (400); the text is the endpoint's."""


class StoppedError(Exception):
    """Another thread had a failure that ends the stage."""


@dataclass
class _Address:
    """One server, and its state."""

    url: str
    client: Any
    at_work: int = 0
    asked: int = 0
    away_until_s: float = 0.0
    told: bool = False


@dataclass
class Timing:
    """A client's clock and its wait; tests replace them.

    Attributes:
        clock: Seconds that never go back.
        wait: Waits so many seconds.
        first_pause_s: The most that the first pause after a failure may be.
    """

    clock: Callable[[], float] = time.monotonic
    wait: Callable[[float], None] = time.sleep
    first_pause_s: float = 1.0


@dataclass
class ServerClient:
    """Sends bodies of chat completions; all threads share it.

    Attributes:
        options: The engine's options.
        urls: The addresses.
        key: The API key; empty for a server that needs none. It is removed from every text of the endpoint.
        note: Called when an address is not used for a while, and when it is used again.
        timing: Clock and waiting.
    """

    options: ServerOptions
    urls: Sequence[str]
    key: str
    note: Callable[[str], None] = print
    timing: Timing = field(default_factory=Timing)
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._addresses = [_Address(url, _openai_client(url, self.key, self.options)) for url in self.urls]

    def complete(self, body: dict[str, Any], retried: Callable[[], None] = lambda: None) -> bytes:
        """The bytes of the reply to one request.

        Raises:
            TooLongError: it does not fit the model's context.
            RefusedError: the endpoint does not understand it (400, 422).
            ModelError: no key or a wrong one, no such model, out of quota, or no answer after all tries.
            StoppedError: `stop` was set while it waited.
        """
        tries = Retrying(
            stop=stop_after_attempt(self.options.max_retries + 1),
            wait=self._pause,
            retry=retry_if_exception_type(PassingError),
            sleep=self.pause,
            before_sleep=lambda _: retried(),
            reraise=True,
        )
        try:
            content: bytes = tries(self._try, body)
            return content
        except PassingError as error:
            raise ModelError(
                f"no answer after {self.options.max_retries + 1} tries: {error}",
                where=self._where(),
                do="check that the server is up, then run again: all received replies are kept and not requested again",
            ) from None

    def close(self) -> None:
        """Close connections."""
        for address in self._addresses:
            address.client.close()

    def pause(self, seconds: float) -> None:
        """Wait; raises StoppedError if the stage ends meanwhile."""
        end = self.timing.clock() + seconds
        while (left := end - self.timing.clock()) > 0:
            if self.stop.is_set():
                raise StoppedError
            self.timing.wait(min(left, 0.2) if self.timing.wait is time.sleep else left)

    def scrubbed(self, text: str) -> str:
        """A text of the endpoint with the key removed."""
        return text.replace(self.key, "***") if self.key else text

    def _where(self) -> str:
        return f"{_WHERE} ({', '.join(self.urls)})"

    def _pause(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        drawn = wait_random_exponential(multiplier=self.timing.first_pause_s, max=LONGEST_PAUSE_S)(state)
        return max(drawn, getattr(error, "retry_after_s", None) or 0.0)

    def _try(self, body: dict[str, Any]) -> bytes:
        address = self._pick()
        try:
            content = self._send(address, body)
            self._is_back(address)
            return content
        except PassingError as error:
            self._leave_out(address, error)
            raise
        finally:
            with self._lock:
                address.at_work -= 1

    def _pick(self) -> _Address:
        """The address with the fewest requests among those that answer; waits if none does."""
        while True:
            if self.stop.is_set():
                raise StoppedError
            with self._lock:
                now = self.timing.clock()
                here = [address for address in self._addresses if address.away_until_s <= now]
                if here:
                    chosen = min(here, key=lambda address: (address.at_work, address.asked))
                    chosen.at_work += 1
                    chosen.asked += 1
                    return chosen
                delay = min(address.away_until_s for address in self._addresses) - now
            self.pause(delay)

    def _leave_out(self, address: _Address, error: PassingError) -> None:
        """Do not use an address for a while: as long as it says, or if others can answer instead."""
        away = error.retry_after_s or 0.0
        if error.lost and len(self._addresses) > 1:
            away = max(away, LEFT_OUT_S)
        with self._lock:
            address.away_until_s = max(address.away_until_s, self.timing.clock() + away)
            tell = error.lost and len(self._addresses) > 1 and not address.told
            address.told = address.told or tell
        if tell:
            self.note(f"{address.url} does not answer ({error}): it is skipped for {LEFT_OUT_S:g} s at a time")

    def _is_back(self, address: _Address) -> None:
        with self._lock:
            tell, address.told = address.told, False
        if tell:
            self.note(f"{address.url} answers again")

    def _send(self, address: _Address, body: dict[str, Any]) -> bytes:
        own = {name: body[name] for name in ("model", "messages")}
        rest = {name: value for name, value in body.items() if name not in own}
        end = time.monotonic() + self.options.timeout_s
        try:
            with address.client.chat.completions.with_streaming_response.create(**own, extra_body=rest) as response:
                content = b""
                for piece in response.iter_bytes():
                    content += piece
                    if len(content) > MOST_BYTES:
                        raise PassingError(f"a reply of more than {MOST_BYTES >> 20} MiB")
                    if time.monotonic() > end:
                        raise PassingError(f"its reply took more than {self.options.timeout_s:g} s", lost=True)
                return content
        except openai.APIStatusError as error:
            raise self._told(error) from None
        except (openai.APITimeoutError, httpx2.TimeoutException):
            raise PassingError(f"no reply within {self.options.timeout_s:g} s", lost=True) from None
        except (openai.APIConnectionError, httpx2.HTTPError) as error:
            cause = error.__cause__ or error
            raise PassingError(
                self.scrubbed(f"no connection ({cut(str(cause) or type(cause).__name__)})"), lost=True
            ) from None

    def _told(self, error: openai.APIStatusError) -> Exception:
        """The error for a status other than 200."""
        status, text = error.status_code, self.scrubbed(_message(error))
        code = f"{error.code} {error.type} {text}".lower()
        said = f"status {status}: {cut(text)}"
        if status in (400, 413) and any(mark in code for mark in _TOO_LONG):
            return TooLongError(said)
        if status in (402, 403, 429) and any(mark in code for mark in _QUOTA) or status == 402:
            return self._ended(
                f"the account has no quota left ({said})", "pay or wait, then run again: all received replies are kept"
            )
        if status == 429 or status in (408, 409, 425) or status >= 500:
            wait = retry_after_s(error.response.headers, time.time())
            if wait is not None and wait > LONGEST_RETRY_AFTER_S:
                return self._ended(
                    f"asks to come back in {wait:.0f} s ({said})", "run again then: all received replies are kept"
                )
            return PassingError(said, wait, lost=status >= 500)
        if status in (401, 403):
            return self._ended(
                f"refuses the key ({said})",
                "set api_key_env to the variable that holds it, or api_key_block to a Secret block",
            )
        if status == 404:
            return self._ended(
                f"has no model {self.options.model!r}, or no chat completions ({said})",
                "an address usually ends in /v1",
            )
        if status in (400, 422):
            return RefusedError(said)
        return self._ended(f"answers with {said}", "use the address of an OpenAI-compatible endpoint")

    def _ended(self, what: str, do: str) -> ModelError:
        return ModelError(f"the endpoint {what}", where=self._where(), do=do)


def retry_after_s(headers: Any, now_s: float) -> float | None:
    """Seconds that an endpoint asks to wait, by `retry-after-ms` or `retry-after` (seconds or a date); None if it does not."""
    with suppress(TypeError, ValueError):
        return max(0.0, float(headers.get("retry-after-ms")) / 1000.0)
    text = headers.get("retry-after")
    with suppress(TypeError, ValueError):
        return max(0.0, float(text))
    with suppress(TypeError, ValueError):
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - now_s)
    return None


def _message(error: openai.APIStatusError) -> str:
    body = error.body
    if isinstance(body, dict):
        inner = body.get("error", body)
        text = inner.get("message") if isinstance(inner, dict) else inner
        if isinstance(text, str):
            return " ".join(text.split())
    return " ".join(str(body or error.message).split())


def _openai_client(url: str, key: str, options: ServerOptions) -> openai.OpenAI:
    """A client that does not retry, follows no redirect, and tells the endpoint nothing about this machine.

    The loopback is never asked through a proxy: one elsewhere would see the key and could not reach it.
    """
    far = urlsplit(url).hostname not in LOOPBACK
    http = httpx2.Client(
        trust_env=far,
        timeout=options.timeout_s,
        follow_redirects=False,
        limits=httpx2.Limits(max_connections=options.concurrency, max_keepalive_connections=options.concurrency),
        event_hooks={"request": [_say_less]},
    )
    return openai.OpenAI(
        api_key=key or "none", base_url=url, max_retries=0, timeout=options.timeout_s, http_client=http
    )


def _say_less(request: httpx2.Request) -> None:
    """Remove the headers in which the client describes the machine; the client needs one of them, which says nothing about it."""
    for name in [
        name for name in request.headers if name.lower().startswith("x-stainless") and "raw" not in name.lower()
    ]:
        del request.headers[name]
