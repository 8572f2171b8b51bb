"""The checklist judge: a language model writes points for each prompt, and checks each answer against them, with yes or no."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from alignflow.data.artifacts import text_digest
from alignflow.data.configs.judges import ChecklistOptions
from alignflow.data.principle_files import WrittenPrinciple, read_principles
from alignflow.models.generation.base import Sampling
from alignflow.models.judges.base import Assessment, Candidate, JudgeInputs
from alignflow.models.judges.judge_model import NOT_FINITE, Question, Reading
from alignflow.models.judges.model_judges import ScoringJudge, once_each, weighted_mean
from alignflow.models.judges.questions import QuestionTemplate, question_seed

NO_POINTS = "no checklist written"
_TO_WRITE = ("conversation (list of role, content)", "reference", "max_points", "fence")
_TO_CHECK = ("conversation (list of role, content)", "answer", "reference", "point", "options", "fence")
# A line is a point if it begins with a weight in brackets, a dash or a number; other lines are text about points.
_POINT = re.compile(r"^\s{0,20}(?:[-*•]|\d{1,3}[.)])?\s{0,20}(?:[\[(]\s?(\d{1,2})\s?[\])])?\s{0,20}(\S.{0,500})$", re.M)
_MARKED = re.compile(r"^\s{0,20}(?:[-*•]|\d{1,3}[.)]|[\[(]\s?\d{1,2}\s?[\])])")
HEAVIEST = 3.0

Points = list[WrittenPrinciple]


class ChecklistJudge(ScoringJudge):
    """Score = sum_i w_i P(yes to point i) / sum_i w_i, from 0 to 1 (checklists: arXiv 2507.18624; rubrics as rewards: 2507.17746).

    The points depend on the prompt and its reference answer, if any, and never on the answers: all answers to a prompt
    are checked against the same points. The notes have them, each with its weight and the probability of yes.
    """

    def __init__(self, options: ChecklistOptions, inputs: JudgeInputs):
        self._fixed = read_principles(options.points) if options.points else None
        self._options, self._seed, self._most = options.options, options.seed, options.max_points
        templates = {
            "points": QuestionTemplate(options.write_prompt, _TO_WRITE, inputs.run),
            "point": QuestionTemplate(options.prompt, _TO_CHECK, inputs.run),
        }
        super().__init__(options, inputs, "checklist", templates, options.options)
        self.fingerprint = text_digest(self.fingerprint + repr(self._fixed))
        self._sampling = Sampling(options.max_new_tokens, temperature=options.sampling_temperature)

    def _assess(self, candidates: Sequence[Candidate]) -> list[Assessment]:
        """Points for each distinct prompt, and a reading for each answer and point."""
        lists = self._lists(candidates)
        questions = [
            self._question(candidate, point.text)
            for candidate, (points, _) in zip(candidates, lists, strict=True)
            for point in points
        ]
        readings = iter(self._model.read(questions, self._options))
        return [assessment_of_points(points, [next(readings) for _ in points], reason) for points, reason in lists]

    def _lists(self, candidates: Sequence[Candidate]) -> list[tuple[Points, str]]:
        """The points of each answer's prompt, or why there are none."""
        if self._fixed:
            return [(self._fixed, "") for _ in candidates]
        questions = [
            self._templates["points"].fenced(
                self.fingerprint, each.prompt, {"reference": each.reference}, max_points=self._most
            )
            for each in candidates
        ]

        def written(places: list[int]) -> list[tuple[Points, str]]:
            asked = [questions[place] for place in places]
            seeds = [question_seed(self._seed, question) for question in asked]
            found = []
            for writing in self._model.write(asked, self._sampling, seeds):
                points = [] if writing.reason else written_points(writing.text, self._most)
                found.append((points, "" if points else writing.reason or NO_POINTS))
            return found

        return once_each([question.messages[-1]["content"] for question in questions], written)

    def _question(self, candidate: Candidate, point: str) -> Question:
        enclosed = {"answer": candidate.text, "reference": candidate.reference, "point": point}
        return self._templates["point"].fenced(self.fingerprint, candidate.prompt, enclosed, options=self._options)


def written_points(text: str, most: int) -> Points:
    """The points of a written list, the first `most` of them: lines with a weight in brackets, a dash or a number before them.

    A weight over 3 counts as 3, one of 0 or none as 1; a repeated point counts once.
    """
    found: dict[str, float] = {}
    for line in text.splitlines():
        match = _POINT.match(line) if _MARKED.match(line) else None
        if match and any(map(str.isalpha, match[2])):
            found.setdefault(match[2].strip(), min(float(match[1] or 1) or 1.0, HEAVIEST))
    return [
        WrittenPrinciple(f"point_{number}", text, weight)
        for number, (text, weight) in enumerate(list(found.items())[:most], 1)
    ]


def assessment_of_points(points: Points, readings: Sequence[Reading], reason: str) -> Assessment:
    """The score from the readings of the points; None if there are no points, or one has no reading."""
    shares = [reading.probabilities for reading in readings]
    checked = [
        {"point": point.text, "weight": point.weight, "yes": None if share is None else share[0]}
        for point, share in zip(points, shares, strict=True)
    ]
    notes = {"checklist": checked} if points else {}
    masses = [reading.mass for reading in readings if reading.mass is not None]
    mass = math.fsum(masses) / len(masses) if masses else None
    kept = [share[0] for share in shares if share is not None]
    if not points or len(kept) < len(points):
        unread = next((reading.reason for reading in readings if reading.reason), NOT_FINITE)
        return Assessment(None, {}, notes, reason or unread, mass)
    score = weighted_mean(kept, [point.weight for point in points])
    return Assessment(score, {"points": float(len(points))}, notes, mass=mass)
