"""The rating judge: a language model grades an answer, and the score is the expected value over the grades' tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence

from alignflow.data.artifacts import text_digest
from alignflow.data.configs.judges import RatingOptions
from alignflow.data.principle_files import read_principles
from alignflow.models.judges.base import Assessment, Candidate, JudgeInputs
from alignflow.models.judges.judge_model import NOT_FINITE, Question, Reading
from alignflow.models.judges.model_judges import ScoringJudge, weighted_mean
from alignflow.models.judges.questions import QuestionTemplate

_VARIABLES = ("conversation (list of role, content)", "answer", "reference", "aspect", "lowest", "highest", "fence")


class RatingJudge(ScoringJudge):
    """Score = sum_a w_a E_a / sum_a w_a, where E_a = sum_i i P_a(i) over the grades i, renormalised among them.

    Each aspect of the rubric is a separate question (Lee et al. 2023, arXiv 2309.00267, section 2.2.2, for one aspect). An answer
    with an aspect that could not be graded has no score: a mean over the others is not comparable.
    """

    def __init__(self, options: RatingOptions, inputs: JudgeInputs):
        self._aspects = read_principles(options.rubric)
        self._scale = range(options.lowest, options.highest + 1)
        self._grades = tuple(map(str, self._scale))
        self._signed = options.signed
        template = QuestionTemplate(options.prompt, _VARIABLES, inputs.run)
        super().__init__(options, inputs, "rating", {"question": template}, self._grades)
        self.fingerprint = text_digest(self.fingerprint + repr(self._aspects))

    def _assess(self, candidates: Sequence[Candidate]) -> list[Assessment]:
        """A reading for each answer and aspect."""
        questions = [self._question(candidate, aspect.text) for candidate in candidates for aspect in self._aspects]
        readings = self._model.read(questions, self._grades)
        count = len(self._aspects)
        return [self._assessment(readings[start : start + count]) for start in range(0, len(readings), count)]

    def _assessment(self, readings: Sequence[Reading]) -> Assessment:
        grades = {
            aspect.name: grade
            for aspect, reading in zip(self._aspects, readings, strict=True)
            if (grade := expected_grade(reading, self._scale)) is not None
        }
        masses = [reading.mass for reading in readings if reading.mass is not None]
        mass = math.fsum(masses) / len(masses) if masses else None
        if len(grades) < len(readings):
            reason = next((reading.reason for reading in readings if reading.reason), NOT_FINITE)
            return Assessment(None, grades, reason=reason, mass=mass)
        score = weighted_mean(list(grades.values()), [aspect.weight for aspect in self._aspects])
        if self._signed:
            low, high = self._scale[0], self._scale[-1]
            score = 2 * (score - low) / (high - low) - 1
        return Assessment(score, grades, mass=mass)

    def _question(self, candidate: Candidate, aspect: str) -> Question:
        return self._templates["question"].fenced(
            self.fingerprint,
            candidate.prompt,
            {"answer": candidate.text, "reference": candidate.reference},
            aspect=aspect,
            lowest=self._scale[0],
            highest=self._scale[-1],
        )


def expected_grade(reading: Reading, scale: Sequence[int]) -> float | None:
    """sum_i i P(i) over a scale's grades, in the scale's units; None if none could be read."""
    probabilities = reading.probabilities
    if probabilities is None or not all(map(math.isfinite, probabilities)):
        return None
    return math.fsum(grade * probability for grade, probability in zip(scale, probabilities, strict=True))
