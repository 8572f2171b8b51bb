"""A small HTTP server that speaks OpenAI's chat completions as tests want it: slow, down, out of quota, or talking nonsense."""

import hashlib
import json
import math
import socket
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PROBE = "Answer with one letter"  # what the engine asks at its start to find out what is understood


def question_of(body):
    return json.dumps([body["messages"], body.get("seed") if body["temperature"] else None], sort_keys=True)


def share_of(body):
    """The probability of A among A and B: a fixed function of the messages."""
    digest = hashlib.sha256(json.dumps(body["messages"]).encode()).digest()
    return 0.05 + 0.9 * digest[0] / 255


class StandIn:
    """The server and what it saw.

    Attributes:
        behave: Called with (number of the request, body); returns None for a normal reply, or what to do instead: `status`, `headers`,
            `content` (bytes or an object), `drop` (close without a word), `delay` (seconds).
        logprobs: Whether it gives log-probabilities; `refuse`: a request for them is an error.
        answers: Counter of questions -> replies that were sent whole; probes are not counted.
        bodies, headers: Of every request.
        hold_after: Replies after which further requests wait until `release` is called.
    """

    def __init__(self, behave=lambda number, body: None, logprobs=True, hold_after=None):
        self.behave, self.logprobs, self.hold_after = behave, logprobs, hold_after
        self.answers, self.bodies, self.headers = Counter(), [], []
        self.held, self._drops = threading.Event(), False
        self._go, self._lock, self._number, self._sent = threading.Event(), threading.Lock(), 0, 0
        self.most_at_once = self._at_once = 0

        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                stand_in._answer(self)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def release(self, drop=False):
        """Answer held requests, or end them without a word; hold none any more."""
        self.hold_after, self._drops = None, drop
        self._go.set()

    def close(self):
        self.behave = lambda number, body: {"drop": True}  # connections that are open do not end with the server
        self.release()
        self._server.shutdown()
        self._server.server_close()

    @property
    def asked(self):
        """Requests that were no probes."""
        return sum(not is_probe(body) for body in self.bodies)

    def _answer(self, handler):
        raw = handler.rfile.read(int(handler.headers["Content-Length"]))
        body = json.loads(raw)
        with self._lock:
            self._number += not is_probe(body)
            number = self._number
            self.bodies.append(body)
            self.headers.append({name.lower(): value for name, value in handler.headers.items()})
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            if not is_probe(body):
                with self._lock:
                    hold = self.hold_after is not None and self._sent >= self.hold_after
                    self._sent += not hold
                if hold:
                    self.held.set()
                    self._go.wait(120)
                    if self._drops:
                        self._send(handler, body, {"drop": True})
                        return
            self._send(handler, body, (self.behave(number, body) if not is_probe(body) else None) or {})
        finally:
            with self._lock:
                self._at_once -= 1

    def _send(self, handler, body, what):
        time.sleep(what.get("delay", 0))
        if what.get("drop"):
            with suppress(OSError):
                handler.connection.shutdown(socket.SHUT_RDWR)
            handler.close_connection = True
            return
        status, content = what.get("status", 200), what.get("content")
        if content is None:
            status, content = (
                self._reply(body) if status == 200 else (status, {"error": {"message": "as the test wants it"}})
            )
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        try:
            handler.send_response(status)
            for name, value in {"Content-Type": "application/json", **what.get("headers", {})}.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(content)))
            handler.end_headers()
            handler.wfile.write(content)
            handler.wfile.flush()
        except OSError:  # who asked is gone: the reply was not paid for
            return
        if status == 200 and not is_probe(body) and "content" not in what:
            with self._lock:
                self.answers[question_of(body)] += 1

    def _reply(self, body):
        if "structured_outputs" in body:
            return 400, {"error": {"message": "Unrecognized request argument supplied: structured_outputs"}}
        if body.get("logprobs") and self.logprobs == "refuse":
            return 400, {"error": {"message": "logprobs are not supported by this model"}}
        share = share_of(body)
        if body["temperature"]:
            drawn = hashlib.sha256(f"{body['seed']}/{question_of(body)}".encode()).digest()[0] / 256
            text = "A" if drawn < share else "B"
        else:
            text = "A" if share > 0.5 else "B"
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        if body.get("logprobs") and self.logprobs is True:
            choice["logprobs"] = {"content": [{"token": text, "logprob": -0.1, "top_logprobs": listed(share)}]}
        words = sum(len(message["content"].split()) for message in body["messages"])
        return 200, {"choices": [choice], "usage": {"prompt_tokens": words, "completion_tokens": 1}}


def listed(share):
    """Nine tenths on A (with and without a space before it) and B, the rest elsewhere."""
    weights = {"A": 0.8 * share, " A": 0.1 * share, "B": 0.9 * (1 - share), "The": 0.09, "I": 0.001}
    return [{"token": token, "logprob": math.log(weight)} for token, weight in weights.items()]


def is_probe(body):
    return body["messages"][0]["content"].startswith(PROBE)


@contextmanager
def standing_in(**how):
    server = StandIn(**how)
    try:
        yield server
    finally:
        server.close()
