"""Detects what an endpoint supports by asking it: log-probabilities, named tokens, beginnings of answers, seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from alignflow.data.configs.server import ServerOptions
from alignflow.data.errors import ModelError
from alignflow.models.generation.server_client import RefusedError
from alignflow.models.generation.server_messages import TOP_LOGPROBS, Dialect
from alignflow.models.generation.server_replies import MISSING, UnusableError, parse, top_tokens

Ask = Callable[[dict[str, Any]], bytes]
_QUESTION = "Answer with one letter: which comes first in the alphabet, A or B?"
_ODD = ("7Q", "Q7")  # no model answers so unprompted
_WHERE = "generator.options"


def find_dialect(ask: Ask, model: str, options: ServerOptions) -> Dialect:
    """Ask a few short questions to find what the endpoint supports.

    vLLM is recognised by an answer that is one of two odd choices (`structured_outputs`; its earlier `guided_choice` is ignored without a
    warning). vLLM gives the log-probability of any token; others list the most probable ones, or none.

    Raises:
        ModelError: the endpoint refuses even a plain question.
    """
    dialect, logps = _plain(ask, model, options)
    vllm = _is_vllm(ask, model, dialect)
    exact = (
        logps and vllm and not options.thinking_tokens
    )  # numbers instead of texts would hide where the thinking ends
    return replace(dialect, logps="exact" if exact else "listed" if logps else "none", continues=vllm)


def choice_tokens(ask: Ask, model: str, dialect: Dialect, choices: Sequence[str]) -> dict[str, int]:
    """The token of each choice, from an answer that vLLM restricts to it; raises ModelError if one has several tokens."""
    body = {**_body(model, dialect), "logprobs": True, "top_logprobs": len(choices)}
    body["structured_outputs"] = {"choice": list(choices)}
    try:
        texts = [token for token, logp in top_tokens(ask(body)) if logp > MISSING]
        named = [token for token, _ in top_tokens(ask({**body, "return_tokens_as_token_ids": True}))]
    except (UnusableError, RefusedError) as error:
        raise ModelError(
            f"the endpoint does not say which tokens the options are ({error})",
            where=_WHERE,
            do="set logprobs to never",
        ) from None
    if sorted(texts) != sorted(choices) or len(named) != len(texts):
        raise ModelError(
            f"the options {', '.join(map(repr, choices))} are not one token each",
            where="judge.options.options",
            do="use options that are single tokens of the model's tokenizer, such as A and B or 1 and 2",
        )
    return {text: int(name.removeprefix("token_id:")) for text, name in zip(texts, named, strict=True)}


def _plain(ask: Ask, model: str, options: ServerOptions) -> tuple[Dialect, bool]:
    """Ask with all fields that an endpoint may refuse, and drop the refused ones; also whether log-probabilities are returned."""
    dialect, wanted = Dialect(), options.logprobs == "auto"
    for _ in range(4):
        body = _body(model, dialect)
        if wanted:
            body |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
        if dialect.seeds:
            body["seed"] = 0
        try:
            content = ask(body)
        except RefusedError as error:
            said = str(error)
            if "logprob" in said and wanted:
                wanted = False
            elif "max_completion_tokens" in said and dialect.limit == "max_tokens":
                dialect = replace(dialect, limit="max_completion_tokens")
            elif "seed" in said and dialect.seeds:
                dialect = replace(dialect, seeds=False)
            else:
                raise _refused(error) from None
            continue
        return dialect, wanted and _lists(content)
    raise ModelError("the endpoint refuses a plain question", where=_WHERE, do="see its log")


def _lists(content: bytes) -> bool:
    try:
        return bool(top_tokens(content))
    except UnusableError:
        return False


def _is_vllm(ask: Ask, model: str, dialect: Dialect) -> bool:
    body = {**_body(model, dialect), dialect.limit: 8, "structured_outputs": {"choice": list(_ODD)}}
    try:
        text = parse(ask(body))["choices"][0]["message"]["content"]
    except (RefusedError, UnusableError, KeyError, IndexError, TypeError):
        return False
    return text in _ODD


def _body(model: str, dialect: Dialect) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": _QUESTION}], dialect.limit: 1, "temperature": 0.0}


def _refused(error: RefusedError) -> ModelError:
    return ModelError(
        f"the endpoint does not understand the request ({error})",
        where=_WHERE,
        do="use an endpoint with OpenAI's chat completions",
    )
