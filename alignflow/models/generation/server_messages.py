"""The body of one chat completion request, without control tokens in its texts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from alignflow.data.artifacts import canonical_json, text_digest
from alignflow.models.generation.chat import ChatRequest

TOP_LOGPROBS = 20  # the most that OpenAI's interface lists
ANSWER_TOKENS = 8  # room for a sampled verdict: an option, and some text around it
_CONTROL = re.compile(
    r"<\|[^|<>\s]{1,40}\|>|<｜[^｜<>]{1,40}｜>|</?s>|<(?:bos|eos|pad|unk)>|</?(?:start_of_turn|end_of_turn)>|\[/?(?:INST|SYSTEM_PROMPT)\]|<</?SYS>>"
    r"|</?think>",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Dialect:
    """What an endpoint supports, detected at the start.

    Attributes:
        logps: How it gives log-probabilities of choices. `exact`: those of named tokens (vLLM); `listed`: the most probable
            tokens; `none`.
        continues: Whether it continues the beginning of an answer (vLLM).
        seeds: Whether it supports seeds.
        limit: Name of the field that bounds the reply.
    """

    logps: str = "none"
    continues: bool = False
    seeds: bool = True
    limit: str = "max_tokens"


def neutralised(text: str) -> str:
    """The text with a space in each control token of the known chat templates: an endpoint would read it as the border of a turn."""
    return _CONTROL.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)


def body_of(
    request: ChatRequest, model: str, dialect: Dialect, room: int, tokens: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """The body of a request.

    Args:
        request: The request.
        model: The endpoint's name of its model.
        dialect: What the endpoint supports.
        room: Tokens for the model's thinking.
        tokens: Token of each choice, if the dialect is `exact`.
    """
    messages = [
        {"role": message["role"], "content": neutralised(message.get("content") or "")} for message in request.messages
    ]
    body: dict[str, Any] = {
        "model": model,
        "messages": messages,
        dialect.limit: request.max_new_tokens + room,
        "temperature": request.temperature,
    }
    if request.top_p < 1:
        body["top_p"] = request.top_p
    if request.top_k:
        body["top_k"] = request.top_k
    if dialect.seeds and request.temperature > 0:
        body["seed"] = request.seed % 2**31
    if request.choices and dialect.logps != "none":
        body |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
        if tokens is not None:
            body |= {"top_logprobs": len(tokens), "logprob_token_ids": list(tokens.values())}
            body["return_tokens_as_token_ids"] = True
    if request.template_arguments:
        body["chat_template_kwargs"] = dict(request.template_arguments)
    if request.continues:
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    return body


def request_id(request: ChatRequest, identity: str, dialect: Dialect, room: int) -> str:
    """The id of a reply in the journal: the model and its label, the whole request, and how the reply is read."""
    asked = {**asdict(request), "messages": [dict(message) for message in request.messages]}
    return text_digest(canonical_json([identity, dialect.logps, room, asked]))[:40]


def characters(request: ChatRequest) -> int:
    """Characters of all messages, from which tokens are estimated."""
    return sum(len(message.get("content") or "") + 8 for message in request.messages)
