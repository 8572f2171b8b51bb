"""The engine `server`: chats with an OpenAI-compatible endpoint; every reply is stored at once."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path
from typing import Any

from alignflow.data.artifacts import canonical_json, text_digest
from alignflow.data.configs.server import ServerOptions, block_variable
from alignflow.data.errors import ModelError, RecipeError, UserError
from alignflow.data.run import Run, write_json
from alignflow.models.generation.chat import ChatReply, ChatRequest
from alignflow.models.generation.journal import model_identity
from alignflow.models.generation.named_models import content_outside
from alignflow.models.generation.rate_limit import RateLimit
from alignflow.models.generation.reply_journal import ReplyJournal
from alignflow.models.generation.server_client import RefusedError, ServerClient, StoppedError, Timing, TooLongError
from alignflow.models.generation.server_dialect import choice_tokens, find_dialect
from alignflow.models.generation.server_messages import Dialect, body_of, characters, request_id
from alignflow.models.generation.server_process import NAME, ServerProcess, local_directory
from alignflow.models.generation.server_replies import UnusableError, read_reply, usage_of, verdict_of
from alignflow.models.generation.server_usage import Usage

TOO_LONG = "too long"
UNUSABLE = "unusable reply"
TRIES = 3  # for a usable reply
READ_BY = {
    "exact": "log-probabilities",
    "listed": "log-probabilities of the most probable tokens",
    "none": "sampled verdicts",
}


class ServerEngine:
    """One model behind one or several addresses, or behind a server that is started for it. See `ChatEngine`.

    Args:
        path: The role's model, which `serve` serves.
        run: Stores replies (`rows`), and gets notes and warnings.
        options: The engine's options.
        timing: Clock and wait.
    """

    def __init__(self, path: Path, run: Run, options: ServerOptions, timing: Timing | None = None):
        self._options, self._run, self._timing = options, run, timing or Timing()
        self.samples = options.samples
        self._served = Path(options.serve.path) if options.serve and options.serve.path else path
        # A judge's questions are keyed by its model: served here or elsewhere, a model gets the same questions and gives the same labels.
        self.identity = model_identity(self._served) if options.serve else f"server:{options.model}:{options.label}"
        self._known_as = (
            f"served:{self.identity or content_outside(self._served)}"
            if options.serve
            else canonical_json(["server", options.model, options.label])
        )
        self.usage = Usage(options, run.shares)
        self._journal = ReplyJournal(run.rows, run.note)
        self._limit = _limit_of(options, run.shares, self._timing)
        self._pool = ThreadPoolExecutor(max_workers=options.concurrency, thread_name_prefix="server")
        self._process: ServerProcess | None = None
        self._client: ServerClient | None = None
        self._dialect: Dialect | None = None
        self._tokens: dict[tuple[str, ...], dict[str, int]] = {}
        self._lock = threading.Lock()

    @property
    def dialect(self) -> Dialect:
        """What the endpoint supports; the first access asks it, unless an earlier process did."""
        with self._lock:
            if self._dialect is None:
                found = self._remembered(
                    "dialect", lambda: asdict(find_dialect(self._probe, self._name, self._options))
                )
                self._dialect = Dialect(**found)
                self._run.note(f"{self._who}: judges read {READ_BY[self._dialect.logps]}")
            return self._dialect

    @property
    def reads_logps(self) -> bool:
        """Whether the endpoint gives log-probabilities of choices."""
        return self.dialect.logps != "none"

    @property
    def continues(self) -> bool:
        """Whether the endpoint continues the beginning of an answer."""
        return self.dialect.continues

    def check_choices(self, choices: Sequence[str]) -> None:
        """Find the token of each choice, if the endpoint supports it; raises ModelError."""
        dialect = self.dialect
        if dialect.logps == "exact" and tuple(choices) not in self._tokens:
            self._tokens[tuple(choices)] = self._remembered(
                list(choices), lambda: choice_tokens(self._probe, self._name, dialect, choices)
            )

    def reply(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """A reply to each request; equal requests are sent once, and those in the journal not at all.

        Raises:
            ModelError: the endpoint does not answer after all tries, refuses, or too many replies are unusable. Received replies are kept.
        """
        dialect, room = self.dialect, self._options.thinking_tokens
        for choices in {request.choices for request in requests if request.choices}:
            self.check_choices(choices)
        if not dialect.continues and any(request.continues or request.top_k for request in requests):
            raise RecipeError(
                "the endpoint supports neither top_k nor the beginning of an answer",
                where="generator",
                do="remove top_k, or serve the model with vLLM",
            )
        ids = [request_id(request, self._known_as, dialect, room) for request in requests]
        found: dict[str, ChatReply] = {}
        missing: dict[str, ChatRequest] = {}
        for identity, request in zip(ids, requests, strict=True):
            if identity not in found and identity not in missing:
                kept = self._journal.get(identity)
                if kept is None:
                    missing[identity] = request
                else:
                    found[identity] = ChatReply(**kept)
                    self.usage.count("journal")
        before = self.usage.prompt_tokens + self.usage.completion_tokens
        try:
            found |= self._ask_all(missing)
        finally:
            self._run.count_tokens(self.usage.prompt_tokens + self.usage.completion_tokens - before)
        return [found[identity] for identity in ids]

    def close(self) -> None:
        """Close everything, and record the cost: `side/usage.json`, the stage's cost, and one line."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._journal.close()
        if self._client:
            self._client.close()
        if self._process:
            self._process.close()
        if self.usage.asked or self.usage.journal:
            self._leave_usage()

    def _leave_usage(self) -> None:
        path = self._run.side / "usage.json"
        told = json.loads(path.read_text()) if path.exists() else []
        read_by = READ_BY[self._dialect.logps] if self._dialect else ""
        mine = {"model": self._name, "label": self._options.label, "judges_read": read_by, **self.usage.as_json()}
        write_json(path, [*told, mine])
        names = {"asked": "requests", "journal": "from_journal", "retried": "retries", "cost": "price"}
        for name, value in self.usage.as_json().items():
            if isinstance(value, int | float):
                self._run.spend(names.get(name, name), float(value))
        self._run.note(f"{self._who}: {self.usage.in_words()}")

    def _ask_all(self, missing: dict[str, ChatRequest]) -> dict[str, ChatReply]:
        """Send requests in parallel. The first failure cancels waiting ones; requests in flight are awaited, since they are paid for."""
        client = self._connected()
        futures: dict[str, Future[ChatReply]] = {
            identity: self._pool.submit(self._ask, identity, request) for identity, request in missing.items()
        }
        try:
            pending = set(futures.values())
            while pending:
                done, pending = wait(pending, return_when="FIRST_EXCEPTION")
                for future in done:
                    if (error := future.exception()) and not isinstance(error, StoppedError):
                        raise error
            return {identity: future.result() for identity, future in futures.items()}
        except BaseException:
            client.stop.set()
            for future in futures.values():
                future.cancel()
            wait(futures.values())
            raise

    def _ask(self, identity: str, request: ChatRequest) -> ChatReply:
        dialect = self.dialect
        tokens = self._tokens.get(request.choices) if dialect.logps == "exact" else None
        body = body_of(request, self._name, dialect, self._options.thinking_tokens, tokens)
        for _ in range(TRIES):
            content = b""
            try:
                content = self._paid(body, characters(request), request.max_new_tokens)
                reply = read_reply(content, request, tokens, self.reads_logps).reply
            except TooLongError:
                self.usage.count("too_long")
                return ChatReply("", False, reason=TOO_LONG)
            except RefusedError as error:
                raise ModelError(
                    f"the endpoint does not understand the request ({error})",
                    where="generator",
                    do="see the endpoint's documentation",
                ) from None
            except UnusableError as error:
                self._count_unusable(str(error))
                continue
            self._journal.add(identity, _plain(reply, self._connected()))
            if self._says_nothing(request, reply):
                self._count_unusable("it is none of the choices")
            return reply
        return ChatReply("", False, reason=UNUSABLE)

    def _says_nothing(self, request: ChatRequest, reply: ChatReply) -> bool:
        """Whether a reply to a question with choices is none of them."""
        if not request.choices:
            return False
        return not reply.logps if self.reads_logps else verdict_of(reply.text, request.choices) is None

    def _count_unusable(self, why: str) -> None:
        self.usage.count("unusable")
        if self.usage.too_much_nonsense():
            raise ModelError(
                f"{self.usage.unusable} of {self.usage.asked} replies are unusable, the last one because {why}",
                where=f"generator ({self._who})",
                do="check the model and the question, or set most_nonsense to a larger value; replies that were paid for are kept",
            )

    def _remembered(self, what: Any, find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What an earlier process found out about this endpoint, otherwise the result of `find`: a run with all replies sends nothing."""
        options = self._options
        place = [
            self._known_as,
            sorted(options.urls),
            options.logprobs,
            options.thinking_tokens,
            self._run.runtime.precision,
        ]
        identity = text_digest(canonical_json(["endpoint", what, *place]))[:40]
        kept = self._journal.get(identity)
        if kept is None:
            kept = find()
            self._journal.add(identity, kept)
        return kept

    def _probe(self, body: dict[str, Any]) -> bytes:
        text = "".join(message["content"] for message in body["messages"])
        return self._paid(body, len(text), 8)

    def _paid(self, body: dict[str, Any], characters: int, most_new: int) -> bytes:
        """Send a body within the limits of rate and cost, and count the reply."""
        client = self._connected()
        estimate = self.usage.estimate(characters, most_new + self._options.thinking_tokens)
        self.usage.reserve(estimate)
        try:
            grant = self._limit.take(estimate.prompt + estimate.completion)

            def again() -> None:
                self.usage.count("retried")
                if self._process:
                    self._process.revive()
                self._limit.take(estimate.prompt + estimate.completion)

            content = client.complete(body, again)
            self._limit.settle(grant, self.usage.came(estimate, characters, _counted(content)))
            return content
        finally:
            self.usage.release(estimate)

    @property
    def _name(self) -> str:
        return self._options.model or NAME

    @property
    def _who(self) -> str:
        return f"{self._name} at {', '.join(self._options.urls) if self._options.urls else 'the server of this run'}"

    def _connected(self) -> ServerClient:
        """The client; starts the server if the run has its own."""
        if self._client is None:
            options = self._options
            if options.serve is not None:
                self._process = ServerProcess(local_directory(self._served), options.serve, self._run)
                key = self._process.key
            else:
                key = api_key(options)
            urls = (self._process.url,) if self._process else options.urls
            self._client = ServerClient(options, urls, key, self._run.note, self._timing)
            self._limit.watch(self._client.pause)
        return self._client


def api_key(options: ServerOptions) -> str:
    """The key, from the variable that the options name; empty if they name none. Raises UserError if it is not set."""
    name = options.api_key_env or (block_variable(options.api_key_block) if options.api_key_block else "")
    if not name:
        return ""
    key = os.environ.get(name, "").strip()
    if not key:
        what = (
            f"the Secret block {options.api_key_block!r} did not reach this process"
            if options.api_key_block
            else f"{name} is not set"
        )
        raise UserError(
            what, where="generator.options", do="export the key before you start the run, or save the block"
        )
    return key


def _limit_of(options: ServerOptions, shares: int, timing: Timing) -> RateLimit:
    """The limit of one of `shares` parallel processes; raises RecipeError if there is less than one request for each."""
    for name in ("requests_per_minute", "tokens_per_minute"):
        if (most := getattr(options, name)) is not None and most < shares:
            raise RecipeError(
                f"{most} a minute, and {shares} shards that each send at least one request",
                where=f"generator.options.{name}",
                do="set fewer shards for the stage, or a larger limit",
            )
    requests, tokens = (
        None if most is None else most // shares for most in (options.requests_per_minute, options.tokens_per_minute)
    )
    return RateLimit(requests, tokens, timing.clock)


def _counted(content: bytes) -> tuple[int | None, int | None]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None, None
    return usage_of(found) if isinstance(found, dict) else (None, None)


def _plain(reply: ChatReply, client: ServerClient) -> dict[str, Any]:
    """A reply in the journal's form, with the key removed in case the endpoint repeats it."""
    fields = asdict(reply)
    return {**fields, "text": client.scrubbed(fields["text"])}
