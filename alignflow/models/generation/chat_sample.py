"""Completions from an endpoint that takes messages: the rows that the stage `sample` journals, without token ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignflow.data.configs.generation import SampleConfig
from alignflow.data.errors import DataError, ModelError
from alignflow.data.records import row_id
from alignflow.data.run import Run
from alignflow.data.tools import is_structured
from alignflow.models.generation.base import generator_identity, row_seed
from alignflow.models.generation.chat import ChatEngine, ChatReply, ChatRequest, make_chat_engine
from alignflow.models.generation.journal import RowWork
from alignflow.models.generation.named_models import named_models


@dataclass(frozen=True)
class ChatTask:
    """One completion to ask for: its prompt's row, the request, and its identity in the journal."""

    row: int
    request: ChatRequest
    identity: str


@contextmanager
def chat_sampling(
    config: SampleConfig, policy: Path, rows: Sequence[dict[str, Any]], run: Run
) -> Iterator[tuple[list[ChatTask], RowWork]]:
    """The completions to ask for, and the work that asks for them.

    The endpoint renders and counts: `max_prompt_length` and `truncate` are not applied, and a prompt that it refuses as too long is an
    error; so is one with tools. If the model is not `policy`, a warning says that the completions are off-policy.
    """
    assert config.generator is not None
    _check_texts(rows)
    with closing(make_chat_engine(policy, config.generator, run)) as engine:
        if engine.identity.startswith("server:"):
            run.warn(f"the completions are from the model behind the endpoint ({engine.identity}), not of the policy")
        settings = _settings(config)
        tasks = [
            _task(config, settings, engine, row, rows[row], index)
            for row in range(len(rows))
            for index in range(config.n)
        ]
        yield (
            tasks,
            RowWork(
                [task.identity for task in tasks],
                config.batch_size,
                _asker(engine, tasks, rows, run),
                lambda done, total: run.progress(done, total, "completions"),
            ),
        )


def _check_texts(rows: Sequence[dict[str, Any]]) -> None:
    """Refuse prompts that a request cannot hold, since it has only texts."""
    for row in rows:
        if is_structured(row["prompt"]):
            raise DataError(
                "the prompt has tools, tool calls or thinking, and an endpoint gets only texts",
                where=f"row {row['id']}",
                do="use the engine transformers or vllm, or remove such prompts",
            )


def _settings(config: SampleConfig) -> dict[str, Any]:
    """The part of a completion's id besides its prompt and the engine's model."""
    assert config.generator is not None
    settings = config.model_dump(include={"max_new_tokens", "temperature", "top_p", "top_k", "seed"})
    models = named_models(config.generator)
    return {**settings, **generator_identity(config.generator), **({"models": models} if models else {})}


def _task(
    config: SampleConfig, settings: dict[str, Any], engine: ChatEngine, number: int, row: dict[str, Any], index: int
) -> ChatTask:
    request = ChatRequest(
        tuple({"role": message["role"], "content": message["content"]} for message in row["prompt"]),
        config.max_new_tokens,
        config.temperature,
        config.top_p,
        config.top_k,
        row_seed(config.seed, row["id"], index),
    )
    return ChatTask(number, request, row_id("completion", engine.identity, row["id"], row["prompt"], index, settings))


def _asker(
    engine: ChatEngine, tasks: Sequence[ChatTask], rows: Sequence[dict[str, Any]], run: Run
) -> Callable[[list[int]], list[Any]]:
    def compute(batch: list[int]) -> list[Any]:
        replies = engine.reply([tasks[index].request for index in batch])
        run.count_rows(len(batch))
        return [_row(reply, rows[tasks[index].row]["id"]) for index, reply in zip(batch, replies, strict=True)]

    return compute


def _row(reply: ChatReply, identity: str) -> dict[str, Any]:
    """A completion in the journal's form; its tokens are None if the endpoint counts none."""
    if reply.reason == "too long":
        raise DataError(
            "a prompt is too long for the endpoint's model",
            where=f"row {identity}",
            do="set sample.max_new_tokens to a smaller value, drop such prompts (data.max_prompt_tokens), or serve a longer context",
        )
    if reply.reason:
        raise ModelError(
            f"no reply can be read as a completion ({reply.reason})",
            where=f"row {identity}",
            do="see the endpoint's log",
        )
    return {"text": reply.text, "ended": reply.ended, "tokens": reply.completion_tokens}
