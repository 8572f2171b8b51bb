"""A language model for judges behind a chat endpoint, messages in and text out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alignflow.data.artifacts import canonical_json, text_digest
from alignflow.data.configs.generators import GeneratorConfig
from alignflow.data.configs.options import JudgeModelOptions
from alignflow.data.errors import RecipeError
from alignflow.data.records import assistant, user
from alignflow.data.run import Run
from alignflow.models.generation.base import Sampling, row_seed
from alignflow.models.generation.chat import ChatEngine, ChatReply, ChatRequest, make_chat_engine
from alignflow.models.generation.server_messages import ANSWER_TOKENS
from alignflow.models.generation.server_replies import verdict_of
from alignflow.models.judges.judge_model import Question, Reading, Writing

NOT_LISTED = "no option among the most probable tokens"
NO_OPTION = "no sample is an option"
CONTROL_TOKENS = (
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|begin_of_text|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "[INST]",
    "[/INST]",
    "<s>",
    "</s>",
    "<think>",
    "</think>",
)
"""Control tokens of the known chat templates, each written with a space in it: which of them the endpoint's model has is unknown."""


class ChatJudgeModel:
    """Asks a `ChatEngine`. Log-probabilities are read if the endpoint gives them; otherwise verdicts are sampled at temperature 1.

    The judge's text so far is sent as the beginning of its answer if the endpoint supports that (vLLM), otherwise as a complete
    answer, after which the user asks for the option. `max_length` is not applied: only the endpoint knows its tokens, and it refuses
    questions that are too long.
    """

    def __init__(self, path: Path, options: JudgeModelOptions, generator: GeneratorConfig, run: Run):
        if options.thinking_tokens:
            raise RecipeError(
                "an endpoint has a separate limit for thinking",
                where="judge.options.thinking_tokens",
                do="set thinking_tokens in the options of the engine server instead",
            )
        self._engine: ChatEngine = make_chat_engine(path, generator, run)
        self._arguments: Mapping[str, Any] = options.chat_template_kwargs
        self._run, self._told = run, False
        self.identity = self._engine.identity
        self.control_tokens: Sequence[str] = CONTROL_TOKENS

    def check_options(self, options: Sequence[str]) -> None:
        """Refuse options that are not one token each, if the endpoint says so."""
        self._engine.check_choices(options)

    def read(self, questions: Sequence[Question], options: Sequence[str]) -> list[Reading]:
        """One request for each question, or `samples` of them."""
        if not questions:
            return []
        if self._engine.reads_logps:
            replies = self._engine.reply([self._request(question, options, 1, 0.0) for question in questions])
            return [_from_logps(reply, options) for reply in replies]
        return self._sampled(questions, options)

    def write(self, questions: Sequence[Question], sampling: Sampling, seeds: Sequence[int]) -> list[Writing]:
        """An answer to each question; a question that is too long for the model has none."""
        requests = [
            ChatRequest(
                self._messages(question, "Go on exactly where you stopped."),
                sampling.max_new_tokens,
                sampling.temperature,
                sampling.top_p,
                sampling.top_k,
                seed,
                continues=self._continues(question),
                template_arguments=self._arguments,
            )
            for question, seed in zip(questions, seeds, strict=True)
        ]
        return (
            [
                Writing(reply.text, reply.ended, reply.reason, reply.completion_tokens)
                for reply in self._engine.reply(requests)
            ]
            if requests
            else []
        )

    @property
    def usage(self) -> dict[str, Any] | None:
        """Requests, tokens and cost so far, as `side/usage.json` has them; None for an engine that does not count."""
        found: Any = getattr(self._engine, "usage", None)
        return None if found is None else found.as_json()

    def close(self) -> None:
        """End the engine."""
        self._engine.close()

    def _sampled(self, questions: Sequence[Question], options: Sequence[str]) -> list[Reading]:
        """Frequencies of the options among sampled answers."""
        count = self._engine.samples
        if not self._told:
            self._told = True
            self._run.warn(
                f"the endpoint gives no log-probabilities: labels are the frequencies of only {count} sampled verdicts in each order"
            )
        requests = [
            self._request(question, options, ANSWER_TOKENS, 1.0, seed)
            for question in questions
            for seed in _seeds(question, count)
        ]
        replies = self._engine.reply(requests)
        return [_from_samples(replies[place * count : (place + 1) * count], options) for place in range(len(questions))]

    def _request(
        self, question: Question, options: Sequence[str], room: int, temperature: float, seed: int = 0
    ) -> ChatRequest:
        shown = " or ".join(options)
        return ChatRequest(
            self._messages(question, f"Now give your answer alone: {shown}."),
            room,
            temperature,
            seed=seed,
            choices=tuple(options),
            continues=self._continues(question),
            template_arguments=self._arguments,
        )

    def _continues(self, question: Question) -> bool:
        return bool(question.opening) and self._engine.continues

    def _messages(self, question: Question, asks_on: str) -> tuple[Mapping[str, str], ...]:
        if not question.opening:
            return question.messages
        begun = (*question.messages, *assistant(question.opening))
        return begun if self._engine.continues else (*begun, *user(asks_on))


def _seeds(question: Question, count: int) -> list[int]:
    identity = text_digest(canonical_json([[dict(message) for message in question.messages], question.opening]))
    return [row_seed(0, identity, index) for index in range(count)]


def _from_logps(reply: ChatReply, options: Sequence[str]) -> Reading:
    if reply.reason:
        return Reading(None, reply.reason)
    if not reply.logps:
        return Reading(None, NOT_LISTED)
    return Reading(tuple(reply.logps.get(option, -math.inf) for option in options))


def _from_samples(replies: Sequence[ChatReply], options: Sequence[str]) -> Reading:
    if reasons := [reply.reason for reply in replies if reply.reason]:
        return Reading(None, reasons[0])
    verdicts = [verdict_of(reply.text, options) for reply in replies]
    counts = [verdicts.count(option) for option in options]
    if not any(counts):
        return Reading(None, NO_OPTION)
    logps = tuple(math.log(count / len(replies)) if count else -math.inf for count in counts)
    return Reading(logps, samples=len(replies))
