"""Reads and checks the bytes of a chat completion: returns the reply, or says why it is unusable."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from alignflow.models.generation.chat import ChatReply, ChatRequest

MISSING = -9000.0  # vLLM writes -9999 for minus infinity
_CLOSE_THINK, _OPEN_THINK = "</think>", "<think>"
_ROUNDING = 1e-3


class UnusableError(Exception):
    """No answer can be read from the reply; the text says why."""


class Read(NamedTuple):
    """A reply, and what it cost in tokens (None: the endpoint does not say)."""

    reply: ChatReply
    prompt_tokens: int | None
    completion_tokens: int | None


def read_reply(content: bytes, request: ChatRequest, tokens: Mapping[str, int] | None, reads_logps: bool) -> Read:
    """The reply in the bytes of a chat completion.

    Args:
        content: The body.
        request: What was asked.
        tokens: Token of each choice, if their log-probabilities were asked for by number.
        reads_logps: Whether log-probabilities of the choices were asked for.

    Raises:
        UnusableError: it is not JSON, or has no choice, no text, or invalid log-probabilities.
    """
    found = parse(content)
    choice = _first_choice(found)
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else None
    if text is None and isinstance(message, dict) and (message.get("reasoning_content") or message.get("reasoning")):
        text = ""  # it was still thinking
    if not isinstance(text, str):
        raise UnusableError("it has no text")
    answer, thinks = without_thinking(text)
    logps = None
    if reads_logps and request.choices:
        listed = _after_thinking(_listed(choice))
        logps = _of_tokens(listed, tokens) if tokens is not None else _of_texts(listed, request.choices)
    ended = choice.get("finish_reason") == "stop" and not thinks
    counted = usage_of(found)
    return Read(ChatReply(answer, ended, *counted, logps=logps), *counted)


def parse(content: bytes) -> dict[str, Any]:
    """The object in a body; raises UnusableError if there is none."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise UnusableError("it is not JSON") from None
    if not isinstance(found, dict):
        raise UnusableError("it is no object")
    return found


def usage_of(found: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Tokens of question and reply, as the endpoint counts them; None if it does not say."""
    usage = found.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))


def without_thinking(text: str) -> tuple[str, bool]:
    """A reply without the model's thinking before it, and whether the model is still thinking."""
    if _CLOSE_THINK in text:
        return text.rpartition(_CLOSE_THINK)[2].lstrip(), False
    if text.lstrip().startswith(_OPEN_THINK):
        return "", True
    return text, False


def top_tokens(content: bytes) -> list[tuple[str, float]]:
    """The tokens that the first place of a reply lists, with log-probabilities; raises UnusableError if it lists none."""
    listed = _listed(_first_choice(parse(content)))
    if not listed:
        raise UnusableError("it lists no log-probabilities")
    return _alternatives(listed[0])


def verdict_of(text: str, choices: Sequence[str]) -> str | None:
    """The choice that a text names, apart from space and marks around it; None if it names none."""
    bare = text.strip(" \t\r\n.,:;!*_`'\"()[]{}")
    return next((choice for choice in choices if choice.strip() == bare), None)


def _first_choice(found: Mapping[str, Any]) -> dict[str, Any]:
    choices = found.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise UnusableError("it has no choices")
    return choices[0]


def _listed(choice: Mapping[str, Any]) -> list[dict[str, Any]]:
    logprobs = choice.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    return [place for place in content if isinstance(place, dict)] if isinstance(content, list) else []


def _after_thinking(places: list[dict[str, Any]]) -> dict[str, Any]:
    """The place of the answer's first token: the first one, or the first that is not blank after the thinking."""
    texts = [str(place.get("token", "")) for place in places]
    start = 0
    written = ""
    for index, text in enumerate(texts):
        written += text
        if written.rstrip().endswith(_CLOSE_THINK):
            start = index + 1
    if start:
        start = next((index for index in range(start, len(texts)) if texts[index].strip()), len(texts))
    elif _OPEN_THINK in written[:40]:
        start = len(texts)
    if start >= len(places):
        raise UnusableError("it lists no log-probabilities where the answer begins")
    return places[start]


def _alternatives(place: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Tokens and log-probabilities of one place, each token once; raises UnusableError for an invalid log-probability."""
    listed = place.get("top_logprobs")
    entries = listed if isinstance(listed, list) and listed else [place]
    found = []
    for entry in entries:
        token, logp = (entry.get("token"), entry.get("logprob")) if isinstance(entry, dict) else (None, None)
        if not isinstance(token, str) or isinstance(logp, bool) or not isinstance(logp, int | float):
            raise UnusableError("a log-probability in it is no number")
        if math.isnan(logp) or logp > _ROUNDING:
            raise UnusableError(f"a log-probability in it is {logp:g}")
        if logp > MISSING:
            found.append((token, min(float(logp), 0.0)))
    if math.fsum(math.exp(logp) for _, logp in found) > 1.0 + _ROUNDING:
        raise UnusableError("the probabilities in it sum up to more than 1")
    return found


def _of_tokens(place: Mapping[str, Any], tokens: Mapping[str, int]) -> dict[str, float]:
    """Log-probabilities of the choices whose tokens were asked for by number."""
    found = dict(_alternatives(place))
    return {choice: found[name] for choice, number in tokens.items() if (name := f"token_id:{number}") in found}


def _of_texts(place: Mapping[str, Any], choices: Sequence[str]) -> dict[str, float]:
    """Log-probabilities of the choices among the listed tokens; those of `A` and ` A` are summed as probabilities.

    A choice that is not listed is at most as probable as the least probable listed token. It counts as impossible if that is less than a
    hundredth of the listed choices' probability; otherwise the result is empty.
    """
    listed = _alternatives(place)
    weights: dict[str, float] = defaultdict(float)
    for token, logp in listed:
        if (choice := next((choice for choice in choices if choice.strip() == token.strip()), None)) is not None:
            weights[choice] += math.exp(logp)
    unlisted = len(choices) - len(weights)
    least = math.exp(min(logp for _, logp in listed)) if listed else 1.0
    if not weights or unlisted * least > 0.01 * math.fsum(weights.values()):
        return {}
    return {choice: math.log(weight) for choice, weight in weights.items() if weight > 0}


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**12 else None
