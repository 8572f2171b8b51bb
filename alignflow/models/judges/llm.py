"""The LLM judge: a language model is asked in both orders, and the log-probabilities of its two options are read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from jinja2 import StrictUndefined, TemplateError
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment

from alignflow.data.artifacts import text_digest
from alignflow.data.configs.options import LLMJudgeOptions
from alignflow.data.errors import RecipeError
from alignflow.data.records import user
from alignflow.data.tools import told
from alignflow.models.judges.base import IDENTICAL, Candidate, JudgeInputs, Verdict, needed_model, settled
from alignflow.models.judges.blanks import same_answer
from alignflow.models.judges.fences import fence_of
from alignflow.models.judges.judge_model import NOT_FINITE, Question, Reading, make_judge_model
from alignflow.models.judges.marks import Marks

FLAGGED = "has the judge's marks"
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
        self._flagged = options.flagged
        if "fence" not in names_of(source):
            inputs.run.warn(
                f"the judge's prompt {options.prompt!r} does not use `fence`: an answer can pass itself off as the question"
            )
        self._model = make_judge_model(path, options, inputs.generator, inputs.run)
        self._model.check_options(options.options)
        self.fingerprint = text_digest(source + self._model.identity)
        self._marks = Marks(options.options, self._model.control_tokens)

    def compare(self, pairs: Sequence[tuple[Candidate, Candidate]]) -> list[Verdict]:
        """Verdicts from both orders; no label for two equal texts, a question that is too long, or dropped flagged answers."""
        reasons = [
            IDENTICAL if same_answer(first.text, second.text) else FLAGGED if self._drops(first, second) else ""
            for first, second in pairs
        ]
        questions = [
            self._question(*order)
            for (first, second), reason in zip(pairs, reasons, strict=True)
            if not reason
            for order in ((first, second), (second, first))
        ]
        readings = iter(self._model.read(questions, self._options))
        return [
            Verdict(None, reason=reason) if reason else _verdict(next(readings), next(readings)) for reason in reasons
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
        self._model.close()

    def _drops(self, *pair: Candidate) -> bool:
        return self._flagged == "drop" and any(self.flags(pair))

    def _question(self, first: Candidate, second: Candidate) -> Question:
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
        return Question(tuple(user(text.strip())))


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


def _verdict(given: Reading, swapped: Reading) -> Verdict:
    if given.logps is None or swapped.logps is None:
        return Verdict(None, reason=given.reason or swapped.reason)
    return verdict_of_orders(given.logps, swapped.logps)


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
