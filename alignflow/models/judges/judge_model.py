"""A language model for judges: it gives the probability of each option as an answer to a question, and it writes text.

Judges never see token ids: all engines share this interface.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from alignflow.data.chat_templates import asks_for_date, change_template, with_arguments, with_date
from alignflow.data.configs.generators import GeneratorConfig
from alignflow.data.configs.options import JudgeModelOptions
from alignflow.data.errors import ModelError
from alignflow.data.records import user
from alignflow.data.rendering import decode_completion, encode_prompt, encode_turn
from alignflow.data.run import Run
from alignflow.models.generation.base import Generation, Generator, Sampling, make_generator, row_seed
from alignflow.models.generation.chat import is_chat
from alignflow.models.generation.journal import model_identity

TOO_LONG = "too long"
NOT_FINITE = "not finite"
STILL_THINKING = "did not finish thinking"
THOUGHT = "</think>"
_AFTER_THINKING = 8  # tokens: blanks between the thinking and the answer's first word
DATE = datetime(2025, 1, 1)


@dataclass(frozen=True)
class Question:
    """A question to a judge.

    Attributes:
        messages: The conversation; its last turn is a user's.
        opening: The judge's text so far (a rationale), which its answer continues; usually empty.
    """

    messages: tuple[Mapping[str, str], ...]
    opening: str = ""


@dataclass(frozen=True)
class Reading:
    """The probability of each option as the answer to one question.

    Attributes:
        logps: Log-probability of each option among all possible answers; None if there is no reading.
        reason: Why there is no reading; empty if there is one.
        samples: 0 if log-probabilities were read; otherwise the number of sampled answers behind the frequencies.
    """

    logps: tuple[float, ...] | None
    reason: str = ""
    samples: int = 0

    @property
    def mass(self) -> float | None:
        """Probability of the options together; None if there is none."""
        if self.logps is None or any(map(math.isnan, self.logps)):
            return None
        return math.fsum(map(math.exp, self.logps))

    @property
    def probabilities(self) -> tuple[float, ...] | None:
        """Probabilities renormalised over the options; None if no option is possible."""
        if self.logps is None or any(map(math.isnan, self.logps)) or not math.isfinite(top := max(self.logps)):
            return None
        weights = [math.exp(logp - top) for logp in self.logps]
        return tuple(weight / math.fsum(weights) for weight in weights)


@dataclass(frozen=True)
class Writing:
    """A text written by the judge.

    Attributes:
        text: The text, without the question's opening.
        ended: Whether the model stopped by itself.
        reason: Why there is no text; empty if there is one.
        tokens: Number of tokens of the text, stop token included; None if it is not known.
    """

    text: str
    ended: bool
    reason: str = ""
    tokens: int | None = None


class JudgeModel(Protocol):
    """A loaded model, or an endpoint.

    Attributes:
        identity: Identifies the model; part of every judge's fingerprint.
        control_tokens: Texts of its control tokens, if they are known.
    """

    identity: str
    control_tokens: Sequence[str]

    def check_options(self, options: Sequence[str]) -> None:
        """Refuse options that the model cannot give as one token each, before the first question; raises ModelError."""

    def read(self, questions: Sequence[Question], options: Sequence[str]) -> list[Reading]:
        """The probability of each option as the answer to each question; an option is one token after the ids that all share.

        Raises:
            ModelError: the options cannot be told apart by one token.
        """

    def write(self, questions: Sequence[Question], sampling: Sampling, seeds: Sequence[int]) -> list[Writing]:
        """An answer to each question."""

    def close(self) -> None:
        """Free the model's memory."""


def make_judge_model(path: Path, options: JudgeModelOptions, generator: GeneratorConfig | None, run: Run) -> JudgeModel:
    """The model at `path` behind the engine that `generator` names; an endpoint has its own model, or serves the one at `path`."""
    if generator is not None and is_chat(generator):
        from alignflow.models.judges.chat_judge_model import ChatJudgeModel

        return ChatJudgeModel(path, options, generator, run)
    return TokenJudgeModel(path, options, generator, run)


class TokenJudgeModel:
    """A model behind an engine with token ids. Questions are rendered by the function for all conversations."""

    def __init__(self, path: Path, options: JudgeModelOptions, generator: GeneratorConfig | None, run: Run):
        self.identity = model_identity(path)
        self._generator: Generator = make_generator(path, run.runtime, generator)
        self._tokenizer = self._generator.tokenizer
        _fix_template(self._tokenizer, options, run)
        self.control_tokens: Sequence[str] = self._tokenizer.all_special_tokens
        self._run = run
        self._thinking = options.thinking_tokens
        self._thinking_temperature = options.thinking_temperature
        self._max_length = min(options.max_length, self._generator.context_length or options.max_length)
        self._openings: dict[tuple[str, ...], tuple[list[int], list[int]]] = {}

    def check_options(self, options: Sequence[str]) -> None:
        """Find the token of each option."""
        self._openings[tuple(options)] = opening_tokens(self._tokenizer, options)

    def read(self, questions: Sequence[Question], options: Sequence[str]) -> list[Reading]:
        """One forward pass for each question, after its thinking if there is room for it."""
        if self._thinking and not any(question.opening for question in questions):
            return self._read_thoughts(questions, tuple(options))
        asked = [self._asked(question, tuple(options)) for question in questions]
        readings = [Reading(None, TOO_LONG)] * len(questions)
        by_tokens: dict[tuple[int, ...], list[int]] = {}
        for place, (ids, tokens) in enumerate(asked):
            if len(ids) <= self._max_length:
                by_tokens.setdefault(tuple(tokens), []).append(place)
        for options_ids, places in by_tokens.items():
            found = self._scored([asked[place][0] for place in places], options_ids)
            for place, logps in zip(places, found, strict=True):
                readings[place] = Reading(tuple(logps))
        return readings

    def write(self, questions: Sequence[Question], sampling: Sampling, seeds: Sequence[int]) -> list[Writing]:
        """Answers by the engine's sampler, without the thinking before; a question that leaves no room gets none."""
        prompts = [self._prompt(question) for question in questions]
        longest = sampling.max_new_tokens + self._thinking
        room = [place for place, ids in enumerate(prompts) if len(ids) + longest <= self._max_length]
        writings = [Writing("", False, TOO_LONG)] * len(questions)
        made = self._made(
            [prompts[place] for place in room],
            replace(sampling, max_new_tokens=longest),
            [seeds[place] for place in room],
        )
        for place, generation in zip(room, made, strict=True):
            writings[place] = self._writing(generation)
        return writings

    def _writing(self, generation: Generation) -> Writing:
        ids = generation.ids
        if self._thinking:
            start = after_thinking(self._tokenizer, ids)
            if start is None:
                return Writing("", False, STILL_THINKING)
            ids = ids[start:]
        text = decode_completion(self._tokenizer, ids, ended=generation.ended)
        return Writing(text, generation.ended, tokens=len(ids) + generation.ended)

    def _read_thoughts(self, questions: Sequence[Question], options: tuple[str, ...]) -> list[Reading]:
        """The options at the first place after the thinking where the answer's own text begins."""
        if options not in self._openings:
            self.check_options(options)
        prompts = [encode_prompt(self._tokenizer, list(question.messages)) for question in questions]
        sampling = Sampling(self._thinking + _AFTER_THINKING, temperature=self._thinking_temperature)
        room = [place for place, ids in enumerate(prompts) if len(ids) + sampling.max_new_tokens < self._max_length]
        readings = [Reading(None, TOO_LONG)] * len(questions)
        seeds = [row_seed(0, "/".join(map(str, prompts[place])), 0) for place in room]
        made = self._made([prompts[place] for place in room], sampling, seeds)
        thought: list[tuple[int, list[int]]] = []
        for place, generation in zip(room, made, strict=True):
            start = after_thinking(self._tokenizer, generation.ids)
            if start is None:
                readings[place] = Reading(None, STILL_THINKING)
            else:
                thought.append((place, [*prompts[place], *generation.ids[:start]]))
        tokens = self._openings[options][1]
        found = self._scored([ids for _, ids in thought], tokens) if thought else []
        for (place, _), logps in zip(thought, found, strict=True):
            readings[place] = Reading(tuple(logps))
        return readings

    def close(self) -> None:
        """Free the model's memory."""
        self._generator.close()

    def _scored(self, prompts: Sequence[Sequence[int]], options: Sequence[int]) -> list[list[float]]:
        self._run.count_tokens(sum(map(len, prompts)))
        return self._generator.score_options(prompts, options)

    def _made(self, prompts: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]) -> list[Generation]:
        made = self._generator.generate(prompts, sampling, seeds)
        self._run.count_tokens(sum(map(len, prompts)) + sum(generation.tokens for generation in made))
        return made

    def _asked(self, question: Question, options: tuple[str, ...]) -> tuple[list[int], list[int]]:
        """Ids before the options differ, and the token of each option there."""
        if question.opening:
            return option_tokens(self._tokenizer, options, question)
        if options not in self._openings:
            self.check_options(options)
        shared, tokens = self._openings[options]
        turn = encode_turn(self._tokenizer, list(question.messages), options[0], ended=False, sampled=False)
        return [*turn.prompt_ids, *shared], tokens

    def _prompt(self, question: Question) -> list[int]:
        messages = list(question.messages)
        if not question.opening:
            return encode_prompt(self._tokenizer, messages)
        turn = encode_turn(self._tokenizer, messages, question.opening, ended=False)
        return [*turn.prompt_ids, *turn.completion_ids]


def after_thinking(tokenizer: Any, ids: Sequence[int]) -> int | None:
    """Place of the first non-blank token after `</think>`; None if the thinking does not end.

    If the template opens the thinking, the model writes only its end, so the beginning is not searched for.
    """
    if THOUGHT not in tokenizer.decode(ids):
        return None
    low, high = 0, len(ids)  # the fewest tokens that contain the end, by bisection
    while low < high:
        middle = (low + high) // 2
        if THOUGHT in tokenizer.decode(ids[:middle]):
            high = middle
        else:
            low = middle + 1
    while low < len(ids) and not tokenizer.decode([ids[low]]).strip():
        low += 1
    return low


def opening_tokens(tokenizer: Any, options: Sequence[str]) -> tuple[list[int], list[int]]:
    """The common beginning of all answers before the options differ, and the token that identifies each option; raises ModelError."""
    question = Question(tuple(user("?")))
    ids, tokens = option_tokens(tokenizer, options, question)
    before = encode_turn(tokenizer, list(question.messages), options[0], ended=False, sampled=False).prompt_ids
    return ids[len(before) :], tokens


def option_tokens(tokenizer: Any, options: Sequence[str], question: Question) -> tuple[list[int], list[int]]:
    """The ids of a question before the options differ, and the one token that identifies each option.

    They are encoded as answers are, so that `A` or ` A` is whichever this template and tokenizer produce, and what the template
    writes before an answer's text (an empty block of thinking, a channel) is shared by all.

    Raises:
        ModelError: An option needs more than one token beyond the shared ones.
    """
    turns = [
        encode_turn(tokenizer, list(question.messages), question.opening + option, ended=False, sampled=False)
        for option in options
    ]
    answers = [turn.completion_ids for turn in turns]
    shared = 0
    while len({ids[shared] if shared < len(ids) else -1 for ids in answers}) == 1 and shared < len(answers[0]):
        shared += 1
    rest = [ids[shared:] for ids in answers]
    if {len(ids) for ids in rest} != {1} or len({ids[0] for ids in rest}) < len(options):
        raise ModelError(
            f"the options {', '.join(map(repr, options))} are not one token each ({', '.join(str(len(ids)) for ids in answers)} tokens)",
            where="judge.options.options",
            do="use options that are single tokens of this tokenizer, such as A and B or 1 and 2",
        )
    return [*turns[0].prompt_ids, *answers[0][:shared]], [ids[0] for ids in rest]


def _fix_template(tokenizer: Any, options: JudgeModelOptions, run: Run) -> None:
    """The template with its arguments and a fixed date filled in: a question must not change from day to day."""
    if asks_for_date(tokenizer.chat_template):
        change_template(tokenizer, lambda text: with_date(text, DATE))
        run.warn(
            f"the judge's chat template writes today's date: {DATE:%Y-%m-%d} is used instead, so that its verdicts are the same every day"
        )
    change_template(tokenizer, lambda text: with_arguments(text, options.chat_template_kwargs))
