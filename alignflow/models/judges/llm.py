"""The LLM judge: asks a language model in both orders, and reads the log-probabilities of its two options."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from alignflow.data.configs.options import LLMJudgeOptions
from alignflow.data.errors import RecipeError
from alignflow.data.records import assistant, user
from alignflow.models.generation.base import Sampling
from alignflow.models.judges.base import IDENTICAL, Candidate, JudgeInputs, Verdict, settled
from alignflow.models.judges.blanks import is_blank, same_answer
from alignflow.models.judges.judge_model import NOT_FINITE, Question, Reading
from alignflow.models.judges.model_judges import FLAGGED, AskingJudge
from alignflow.models.judges.questions import QuestionTemplate, question_seed

NO_RATIONALE = "no rationale"
VARIABLES = ("conversation (list of role, content)", "first", "second", "options", "principle", "fence")

Pair = tuple[Candidate, Candidate]


class LLMJudge(AskingJudge):
    """P(first) = (p_given + 1 - p_swapped) / 2, where p is the probability of the first option among the two.

    Probabilities are averaged, not log-probabilities, so that a confident preference for a position does not outweigh the other order.
    Each text of a question is between fences with a code that it cannot contain. An answer with marks that address the
    judge is flagged; the option `flagged` says whether its pairs are asked. With `rationale` the model writes a comparison
    first, one for each order, and its options are read after that (Lee et al. 2023, arXiv 2309.00267, section 2.1).
    """

    pointwise: ClassVar[bool] = False
    name: ClassVar[str] = "llm"

    def __init__(self, options: LLMJudgeOptions, inputs: JudgeInputs):
        if options.options[0] == options.options[1]:
            raise RecipeError(
                f"both options are {options.options[0]!r}", where="judge.options.options", do="set two different ones"
            )
        if options.rationale:
            templates = {
                "rationale": QuestionTemplate(options.rationale_prompt, VARIABLES, inputs.run),
                "verdict": QuestionTemplate(options.verdict_prompt, ("options", "principle")),
            }
        else:
            templates = {"question": QuestionTemplate(options.prompt, VARIABLES, inputs.run)}
        super().__init__(options, inputs, self.name, templates, options.options)
        self._options, self._seed, self._rationale = options.options, options.seed, options.rationale
        self._flagged = options.flagged
        self._writing = Sampling(options.rationale_tokens, temperature=options.rationale_temperature)

    def compare(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """Verdicts from both orders; no label for two equal texts, a question that is too long, or dropped flagged answers."""
        reasons = [self._reason(*pair) for pair in pairs]
        asked = [pair for pair, reason in zip(pairs, reasons, strict=True) if not reason]
        verdicts = iter(self._compare(asked))
        return [Verdict(None, reason=reason) if reason else next(verdicts) for reason in reasons]

    def _compare(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """Verdicts on the pairs that are asked."""
        return self.verdicts(pairs, [""] * len(pairs))

    def verdicts(self, pairs: Sequence[Pair], principles: Sequence[str]) -> list[Verdict]:
        """Verdicts from both orders, each by a principle's text; with an empty one the judge gets no principle."""
        orders = [
            (order, principle)
            for (first, second), principle in zip(pairs, principles, strict=True)
            for order in ((first, second), (second, first))
        ]
        first = self._templates["rationale" if self._rationale else "question"]
        questions = [self._question(first, order, principle) for order, principle in orders]
        rationales, readings = (
            self._read_after_rationales(questions, [principle for _, principle in orders])
            if self._rationale
            else ([""] * len(questions), self._model.read(questions, self._options))
        )
        return [
            replace(
                verdict_of_readings(readings[place], readings[place + 1]),
                rationales=(rationales[place], rationales[place + 1]),
            )
            for place in range(0, len(orders), 2)
        ]

    def score(self, candidates: Sequence[Candidate]) -> list[float | None]:
        """No score: this judge compares."""
        return [None for _ in candidates]

    def probability(self, first: float, second: float) -> float:
        """No score, so no probability from scores; raises TypeError."""
        raise TypeError("a pairwise judge has no scores")

    def details(self, candidates: Sequence[Candidate]) -> list[dict[str, float]]:
        """No parts."""
        return [{} for _ in candidates]

    def _read_after_rationales(
        self, questions: Sequence[Question], principles: Sequence[str]
    ) -> tuple[list[str], list[Reading]]:
        """A comparison for each question, and the options read after it; a question without a comparison has no reading."""
        written = self._model.write(questions, self._writing, [question_seed(self._seed, each) for each in questions])
        texts = [writing.text.strip() for writing in written]
        reasons = [
            writing.reason or (NO_RATIONALE if is_blank(text) else "")
            for writing, text in zip(written, texts, strict=True)
        ]
        followed = [
            self._followed(question, text, principle)
            for question, text, principle, reason in zip(questions, texts, principles, reasons, strict=True)
            if not reason
        ]
        found = iter(self._model.read(followed, self._options))
        return texts, [Reading(None, reason) if reason else next(found) for reason in reasons]

    def _followed(self, question: Question, rationale: str, principle: str) -> Question:
        asked = self._templates["verdict"].text(options=self._options, principle=principle)
        return Question((*question.messages, *assistant(rationale), *user(asked)))

    def _reason(self, first: Candidate, second: Candidate) -> str:
        if same_answer(first.text, second.text):
            return IDENTICAL
        return FLAGGED if self._flagged == "drop" and any(self.flags((first, second))) else ""

    def _question(self, template: QuestionTemplate, order: Pair, principle: str) -> Question:
        enclosed = {"first": order[0].text, "second": order[1].text}
        return template.fenced(self.fingerprint, order[0].prompt, enclosed, options=self._options, principle=principle)


def verdict_of_readings(given: Reading, swapped: Reading) -> Verdict:
    """The verdict from the readings in both orders; no label if an order has no reading."""
    if given.logps is None or swapped.logps is None:
        return Verdict(None, reason=given.reason or swapped.reason)
    return verdict_of_orders(given.logps, swapped.logps)


def verdict_of_orders(given: Sequence[float], swapped: Sequence[float]) -> Verdict:
    """The verdict from the options' log-probabilities in both orders (Lee et al. 2023, arXiv 2309.00267, section 2.1).

    The log-probabilities are over all tokens: their sums are the verdict's masses.

    Args:
        given: Those of the first and the second option, asked with the first answer in the first position.
        swapped: The same, asked with the positions swapped.
    """
    first_seat = [_first_option(*logps) for logps in (given, swapped)]
    masses = (_mass(given), _mass(swapped))
    if not all(map(math.isfinite, first_seat)):
        return Verdict(None, reason=NOT_FINITE, masses=masses)
    orders = (first_seat[0], 1.0 - first_seat[1])
    return Verdict(settled((orders[0] + orders[1]) / 2), orders=orders, masses=masses)


def _mass(logps: Sequence[float]) -> float | None:
    """Probability of the options together; 0 if none is possible, None if a log-probability is NaN."""
    return None if any(map(math.isnan, logps)) else math.fsum(map(math.exp, logps))


def _first_option(first: float, second: float) -> float:
    """exp(first) / (exp(first) + exp(second)) from log-probabilities; NaN if neither is possible."""
    top = max(first, second)
    if not math.isfinite(top):
        return math.nan
    return math.exp(first - top) / (math.exp(first - top) + math.exp(second - top))
