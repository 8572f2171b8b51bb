"""Refuses job variables that set the command, the environment or the directory of a flow run's process.

In Prefect, whoever may start a run may also choose the environment and the directory of its process by job variables. An
environment is code: PYTHONPATH, PYTHONSTARTUP or LD_PRELOAD name files that are executed. So requests that carry such
variables are refused here before Prefect sees them, on every route: a deployment, a run, an automation that
starts runs. The templates of the pools are checked too, because a template could let the variables in again.

This does not protect against somebody who has the login. They may create a deployment that names its own entrypoint
or `pull_steps`, and a worker runs that code. Anyone with the login is trusted like the user who started the workers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from alignflow.server.guard import App, Receive, Scope, Send
from alignflow.server.pools import COMMAND, GPU_POOL, POOL

ALLOWED = ("name", "labels", "stream_output")
"""Job variables that a request may set: none of them reaches the process of the run."""
VARIABLES = ("job_variables", "infra_overrides")
TEMPLATES = ("base_job_template", "default_base_job_template")
DATA = ("parameters", "parameter_openapi_schema")
"""Fields whose contents go to flows: Prefect does not interpret names in them."""
WITHOUT_VARIABLES = ("/api/logs", "/api/events", "/api/artifacts")
"""Routes with many or large requests that take no job variables."""
METHODS = ("POST", "PUT", "PATCH")
LARGEST_BODY = 4 << 20
POOLS = "/api/work_pools/"


class JobVariables:
    """Answers 403 to requests that set a run's command, environment or directory; passes all others to `app`."""

    def __init__(self, app: App):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "websocket":
            await self.app(scope, _refusing(receive) if scope["path"].startswith(POOLS) else receive, send)
        elif scope["type"] == "http" and scope["method"] == "DELETE" and _pool_of(scope["path"]) in (POOL, GPU_POOL):
            await _answer(
                send, 403, f"the work pool {_pool_of(scope['path'])} belongs to `alignflow up` and cannot be deleted"
            )
        elif scope["type"] == "http" and scope["method"] in METHODS and not scope["path"].startswith(WITHOUT_VARIABLES):
            await self._checked(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _checked(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _body(receive)
        if body is None:
            await _answer(send, 413, f"a request of more than {LARGEST_BODY} bytes is refused")
        elif found := reason(body, _pool_of(scope["path"])):
            await _answer(send, 403, found)
        else:
            await self.app(scope, _Again(body, receive), send)


def reason(body: bytes | str, pool: str = "") -> str:
    """Why a JSON document is refused, or "". Anything that is not JSON is left to Prefect.

    Args:
        body: The document.
        pool: The work pool in the request's path, if any.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    for name, value in _fields(document):
        if name in VARIABLES and (refused := sorted(refused_variables(value))):
            return (
                f"the job variable {', '.join(map(repr, refused))} may not be set: a run must not bring its own command, environment or "
                f"directory. Allowed: {', '.join(ALLOWED)}. Pass settings of the run as its parameters."
            )
        if name in TEMPLATES and value:
            owner = pool or (document.get("name", "") if isinstance(document, dict) else "")
            strict = name == TEMPLATES[0] and owner in (POOL, GPU_POOL)
            if found := template_problem(value, strict):
                return found
        if name == TEMPLATES[0] and not value and pool in (POOL, GPU_POOL) and value is not None:
            return f"the template of the work pool {pool} cannot be emptied: it fixes the command of the runs"
    return ""


def refused_variables(value: Any) -> set[str]:
    """Names of job variables that may not be set. A variable without a value sets nothing. `env.NAME` counts as `env`."""
    if not isinstance(value, dict):
        return set()
    return {name for name, given in value.items() if name not in ALLOWED and given not in (None, {}, "", [])}


def template_problem(template: Any, ours: bool) -> str:
    """Why a base job template is refused, or "".

    Args:
        template: The template.
        ours: Whether it is for a pool of `alignflow up`. Then the command must be ours, and no
            variable may reach the process.
    """
    if not isinstance(template, dict):
        return ""
    configuration, variables = template.get("job_configuration"), template.get("variables")
    configuration = configuration if isinstance(configuration, dict) else {}
    properties = variables.get("properties") if isinstance(variables, dict) else None
    defaults = {name: each.get("default") for name, each in (properties or {}).items() if isinstance(each, dict)}
    what = "a work pool's template may not set a command or an environment"
    if ours:
        directory = configuration.get("working_dir")
        fixed = directory is None or (isinstance(directory, str) and "{{" not in directory)
        names = set(properties or {}) - set(ALLOWED)
        if configuration.get("command") != COMMAND or "env" in configuration or not fixed or names:
            return f"{what}. `alignflow up` makes the template of this pool, and it cannot be changed. You can change limits and pauses."
        return ""
    for name in ("command", "env"):
        if configuration.get(name) not in (None, "", {}, f"{{{{ {name} }}}}", COMMAND) or defaults.get(name) not in (
            None,
            "",
            {},
        ):
            return f"{what} (it sets {name!r}). Set it in the environment of the worker that you start for that pool."
    return ""


def _fields(document: Any) -> Iterator[tuple[str, Any]]:
    """Every field at every depth, except the parameters of flows."""
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            for name, inner in value.items():
                yield name, inner
                if name not in DATA:
                    waiting.append(inner)
        elif isinstance(value, list):
            waiting += value


def _pool_of(path: str) -> str:
    return path.removeprefix(POOLS).strip("/\n") if path.startswith(POOLS) else ""


async def _body(receive: Receive) -> bytes | None:
    """The whole body of a request, or None if it is too large."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"".join(parts)  # the client disconnected: the app learns this when it asks for more
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > LARGEST_BODY:
            return None
        if not message.get("more_body", False):
            return b"".join(parts)


class _Again:
    """Replays a body that was read to the app, then passes on further messages."""

    def __init__(self, body: bytes, receive: Receive):
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Any:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        return await self._receive()


def _refusing(receive: Receive) -> Receive:
    """Closes a websocket that sends a refused template: a worker's first message may create its pool."""

    async def checked() -> Any:
        message = await receive()
        text = message.get("text") or message.get("bytes") or ""
        if message["type"] == "websocket.receive" and reason(text):
            return {"type": "websocket.disconnect", "code": 1008}
        return message

    return checked


async def _answer(send: Send, status: int, text: str) -> None:
    body = json.dumps({"detail": text}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
