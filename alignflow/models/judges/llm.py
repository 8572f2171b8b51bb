"""The LLM judge: a local model is asked in both orders, and the log-probabilities of its two options are read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from jinja2 import StrictUndefined, TemplateError
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment

from alignflow.data.artifacts import text_digest
from alignflow.data.chat_templates import asks_for_date, change_template, with_arguments, with_date
from alignflow.data.configs.options import LLMJudgeOptions
from alignflow.data.errors import ModelError, RecipeError
from alignflow.data.records import user
from alignflow.data.rendering import encode_turn
from alignflow.data.run import Run
from alignflow.data.tools import told
from alignflow.models.generation.base import make_generator
from alignflow.models.generation.journal import model_identity
from alignflow.models.judges.base import IDENTICAL, Candidate, JudgeInputs, Verdict, needed_model, settled
from alignflow.models.judges.blanks import same_answer
from alignflow.models.judges.fences import fence_of
from alignflow.models.judges.marks import Marks

TOO_LONG = "too long"
FLAGGED = "has the judge's marks"
NOT_FINITE = "not finite"
DATE = datetime(2025, 1, 1)
_PROMPTS = Path(__file__).parent / "prompts"


class LLMJudge:
    """P(first) = (p_given + 1 - p_swapped) / 2, where p is the probability of the first option among the two.

    Probabilities are averaged, not log-probabilities, so that a confident wrong seat does not outweigh the other order.
    Each text of a question stands between fences with a code that it cannot contain. An answer with marks of the judge's
    own is flagged; the option `flagged` says whether its pairs are asked.
    """

    pointwise: ClassVar[bool] = False

    def __init__(self, options: LLMJudgeOptions, inputs: JudgeInputs):
        path = needed_model(options.model, inputs.policy, "llm", "a model")
        if options.options[0] == options.options[1]:
            raise RecipeError(
                f"both options are {options.options[0]!r}", where="judge.options.options", do="give two different ones"
            )
        self._options = options.options
        source = read_question(options.prompt)
        self._template = parse_question(source, options.prompt)
        self.fingerprint = text_digest(source + model_identity(path))
        self._flagged = options.flagged
        if "fence" not in names_of(source):
            inputs.run.warn(
                f"the judge's prompt {options.prompt!r} does not use `fence`: an answer can pass itself off as the question"
            )
        self._generator = make_generator(path, inputs.run.runtime)
        _fix_template(self._generator.tokenizer, options, inputs.run)
        self._marks = Marks(options.options, self._generator.tokenizer.all_special_tokens)
        self._max_length = min(options.max_length, self._generator.context_length or options.max_length)
        self._prefix, self._tokens = option_tokens(
            self._generator.tokenizer, options.options
        )  # raises before the first question

    def compare(self, pairs: Sequence[tuple[Candidate, Candidate]]) -> list[Verdict]:
        """Verdicts from both orders; no label for two equal texts, a question that is too long, or dropped flagged answers."""
        reasons: list[str] = []
        questions: list[list[int]] = []
        for first, second in pairs:
            reason = (
                IDENTICAL if same_answer(first.text, second.text) else FLAGGED if self._drops(first, second) else ""
            )
            asked = [] if reason else [self._question(first, second), self._question(second, first)]
            too_long = any(len(question) > self._max_length for question in asked)
            reasons.append(TOO_LONG if too_long else reason)
            questions += [] if too_long else asked
        answers = iter(self._generator.score_options(questions, self._tokens))
        return [
            Verdict(None, reason=reason) if reason else verdict_of_orders(next(answers), next(answers))
            for reason in reasons
        ]

    def flags(self, candidates: Sequence[Candidate]) -> list[list[str]]:
        """Names of the judge's own marks in each answer; see marks.py."""
        return [self._marks.of(candidate.text) for candidate in candidates]

    def score(self, candidates: Sequence[Candidate]) -> list[float | None]:
        """No score: this judge compares."""
        return [None for _ in candidates]

    def probability(self, first: float, second: float) -> float:
        """No score, so no probability from scores; raises TypeError."""
        raise TypeError("a pairwise judge has no scores")

    def details(self, candidates: Sequence[Candidate]) -> list[dict[str, float]]:
        """No parts."""
        return [{} for _ in candidates]

    def close(self) -> None:
        """Give the model's memory back."""
        self._generator.close()

    def _drops(self, *pair: Candidate) -> bool:
        return self._flagged == "drop" and any(self.flags(pair))

    def _question(self, first: Candidate, second: Candidate) -> list[int]:
        conversation = [{"role": message["role"], "content": told(message)} for message in first.prompt]
        fence = fence_of(self.fingerprint, conversation, first.text, second.text)
        try:
            text = self._template.render(
                conversation=conversation, first=first.text, second=second.text, options=self._options, fence=fence
            )
        except TemplateError as error:
            raise RecipeError(
                f"the judge's prompt cannot be rendered: {error}", where="judge.options.prompt", do=_VARIABLES
            ) from error
        turn = encode_turn(self._generator.tokenizer, user(text.strip()), self._options[0], ended=False, sampled=False)
        return [*turn.prompt_ids, *self._prefix]


def _fix_template(tokenizer: Any, options: LLMJudgeOptions, run: Run) -> None:
    """Write the template's arguments into it, and a date that is the same every day: a question must not change from day to day."""
    if asks_for_date(tokenizer.chat_template):
        change_template(tokenizer, lambda text: with_date(text, DATE))
        run.warn(
            f"the judge's chat template writes today's date: {DATE:%Y-%m-%d} is used instead, so that its verdicts are the same every day"
        )
    change_template(tokenizer, lambda text: with_arguments(text, options.chat_template_kwargs))


_VARIABLES = "a prompt may use conversation (list of role, content), first, second, options, fence"


def read_question(name_or_path: str) -> str:
    """The source of a built-in prompt or of a file; raises RecipeError where there is none."""
    built_in = _PROMPTS / f"{name_or_path}.j2"
    path = built_in if built_in.is_file() else Path(name_or_path)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        names = ", ".join(sorted(file.stem for file in _PROMPTS.glob("*.j2")))
        raise RecipeError(
            f"no judge prompt {name_or_path!r}",
            where="judge.options.prompt",
            do=f"built-in: {names}; or give the path of a Jinja file",
        ) from error


def parse_question(source: str, name: str) -> Any:
    """The Jinja template, in a sandbox; raises RecipeError where it is broken."""
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    try:
        return environment.from_string(source)
    except TemplateError as error:
        raise RecipeError(f"not a Jinja template: {error}", where=name, do=_VARIABLES) from error


def names_of(source: str) -> set[str]:
    """The variables that a Jinja template takes from outside; none for a broken one."""
    try:
        return find_undeclared_variables(ImmutableSandboxedEnvironment().parse(source))
    except TemplateError:
        return set()


def option_tokens(tokenizer: Any, options: tuple[str, str]) -> tuple[list[int], list[int]]:
    """The tokens that begin the model's answer: those that both options share, and the one that tells each apart.

    They are encoded as answers are, so that `A` or ` A` is whichever this template and tokenizer produce, and what the template
    writes before an answer's text (an empty block of thinking, a channel) is shared by both.

    Raises:
        ModelError: An option needs more than one token beyond the shared ones.
    """
    first, second = (
        encode_turn(tokenizer, user("?"), option, ended=False, sampled=False).completion_ids for option in options
    )
    shared = 0
    while shared < min(len(first), len(second)) and first[shared] == second[shared]:
        shared += 1
    rest = [first[shared:], second[shared:]]
    if [len(ids) for ids in rest] != [1, 1]:
        raise ModelError(
            f"the options {options[0]!r} and {options[1]!r} are not one token each ({len(first)} and {len(second)} tokens)",
            where="judge.options.options",
            do="choose options that this tokenizer knows as single tokens, such as A and B or 1 and 2",
        )
    return first[:shared], [rest[0][0], rest[1][0]]


def verdict_of_orders(given: Sequence[float], swapped: Sequence[float]) -> Verdict:
    """The verdict from the options' log-probabilities in both orders (Lee et al. 2023, arXiv 2309.00267, section 2.1).

    The log-probabilities are those among all tokens: what they sum up to is the verdict's masses.

    Args:
        given: Of the first and the second option, asked with the first answer in the first seat.
        swapped: The same, asked with the seats swapped.
    """
    first_seat = [_first_option(*logps) for logps in (given, swapped)]
    masses = (_mass(given), _mass(swapped))
    if not all(map(math.isfinite, first_seat)):
        return Verdict(None, reason=NOT_FINITE, masses=masses)
    orders = (first_seat[0], 1.0 - first_seat[1])
    return Verdict(settled((orders[0] + orders[1]) / 2), orders=orders, masses=masses)


def _mass(logps: Sequence[float]) -> float | None:
    """Probability of the options together; 0 where none is possible, None where a log-probability is not a number."""
    return None if any(map(math.isnan, logps)) else math.fsum(map(math.exp, logps))


def _first_option(first: float, second: float) -> float:
    """exp(first) / (exp(first) + exp(second)) from log-probabilities; NaN where neither is possible."""
    top = max(first, second)
    if not math.isfinite(top):
        return math.nan
    return math.exp(first - top) / (math.exp(first - top) + math.exp(second - top))
