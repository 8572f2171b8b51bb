"""The protocol of chat engines, messages in and text out: endpoints that exchange no token ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from alignflow.data.catalogue import parse_options
from alignflow.data.configs.generators import GeneratorConfig
from alignflow.data.errors import UserError
from alignflow.data.run import Run
from alignflow.models.generation.base import generator_row


@dataclass(frozen=True)
class ChatRequest:
    """One question.

    Attributes:
        messages: The conversation; it ends with a user's turn, or with the beginning of the answer if `continues`.
        max_new_tokens: Longest reply.
        temperature: 0 takes the most probable token.
        top_p: Smallest set of tokens with this probability; 1 is off.
        top_k: This many tokens at most, if the endpoint supports it; 0 is off.
        seed: Seed of this reply, if the endpoint supports seeds.
        choices: The only texts that the reply may be, one token each; their log-probabilities are asked for. Empty: free text.
        continues: Whether the last message is the beginning of the assistant's answer, which the reply continues.
        template_arguments: Values for variables of the chat template, if the endpoint supports them.
    """

    messages: tuple[Mapping[str, str], ...]
    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    choices: tuple[str, ...] = ()
    continues: bool = False
    template_arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ChatReply:
    """A reply.

    Attributes:
        text: The reply, without the model's thinking before it.
        ended: Whether the model stopped by itself.
        prompt_tokens: Tokens of the question, as the endpoint counts them; None if it does not say.
        completion_tokens: Tokens of the reply, likewise.
        logps: Log-probabilities of the choices at the reply's first token, among all tokens if `whole`; a choice that the endpoint did
            not list is missing. None if the endpoint gives none.
        whole: Whether `logps` are over all tokens; otherwise they are renormalised over the choices.
        reason: Why there is no reply; empty if there is one.
    """

    text: str
    ended: bool
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    logps: Mapping[str, float] | None = None
    whole: bool = True
    reason: str = ""


class ChatEngine(Protocol):
    """An endpoint that answers.

    Attributes:
        identity: Identifies its model in a row's id.
        reads_logps: Whether it gives log-probabilities of choices.
        continues: Whether it takes requests that continue an answer.
        samples: How often to ask a question with choices if the endpoint gives no log-probabilities.
    """

    identity: str
    samples: int

    @property
    def reads_logps(self) -> bool:
        """Whether it gives log-probabilities of choices; the first access asks the endpoint."""

    @property
    def continues(self) -> bool:
        """Whether it takes requests that continue an answer; the first access asks the endpoint."""

    def check_choices(self, choices: Sequence[str]) -> None:
        """Refuse choices that are not one token each, if the endpoint says so; raises ModelError."""

    def reply(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """A reply to each request, in their order; raises ModelError if the endpoint does not answer after all retries.

        Earlier replies are kept, and their requests are not sent again.
        """

    def close(self) -> None:
        """Close connections and end processes."""


def is_chat(config: GeneratorConfig | None) -> bool:
    """Whether an engine exchanges texts; raises RecipeError for an unknown name."""
    return config is not None and generator_row(config).chat


def make_chat_engine(path: Path, config: GeneratorConfig, run: Run) -> ChatEngine:
    """The endpoint that `config` names; `path` is the role's model, for an engine that serves it itself.

    Raises:
        RecipeError: an option is wrong.
        UserError: a package that the engine needs is not installed.
    """
    row = generator_row(config)
    options = parse_options(row, config.options, "generator.options")
    try:
        make = row.resolve()
    except ModuleNotFoundError as error:
        raise UserError(
            f"the engine {config.name!r} needs {error.name}, which is not installed",
            where="generator",
            do="pip install 'alignflow[server]'",
        ) from error
    engine: ChatEngine = make(path, run, options)
    return engine
