"""The additive judge: a language model adds up five points, writes why, and ends with a score (Yuan et al. 2024, arXiv 2401.10020)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from alignflow.data.configs.judges import AdditiveOptions
from alignflow.models.generation.base import Sampling
from alignflow.models.judges.base import Assessment, Candidate, JudgeInputs
from alignflow.models.judges.judge_model import Writing
from alignflow.models.judges.model_judges import ScoringJudge
from alignflow.models.judges.questions import QuestionTemplate, question_seed

NO_SCORE_WRITTEN = "no score written"
LOWEST, HIGHEST = 0.0, 5.0
_VARIABLES = ("conversation (list of role, content)", "answer", "reference", "fence")
_SCORE = re.compile(r"\bscore(?:\*\*)?\s*:\s*(?:\*\*)?\s*(-?\d{1,9}(?:\.\d{1,9})?)(?:\s*/\s*(\d{1,9}))?", re.I)


class AdditiveJudge(ScoringJudge):
    """Score = mean over the sampled replies that have one, from 0 to 5; None if no reply has one."""

    def __init__(self, options: AdditiveOptions, inputs: JudgeInputs):
        template = QuestionTemplate(options.prompt, _VARIABLES, inputs.run)
        super().__init__(options, inputs, "additive", {"question": template})
        self._samples, self._seed = options.samples, options.seed
        self._sampling = Sampling(options.max_new_tokens, temperature=options.sampling_temperature, top_p=options.top_p)

    def _assess(self, candidates: Sequence[Candidate]) -> list[Assessment]:
        """`samples` replies for each answer."""
        questions = [
            self._templates["question"].fenced(
                self.fingerprint, each.prompt, {"answer": each.text, "reference": each.reference}
            )
            for each in candidates
        ]
        asked = [(question, index) for question in questions for index in range(self._samples)]
        seeds = [question_seed(self._seed, question, index) for question, index in asked]
        replies = self._model.write([question for question, _ in asked], self._sampling, seeds)
        return [
            assessment_of_replies(replies[start : start + self._samples])
            for start in range(0, len(replies), self._samples)
        ]


def assessment_of_replies(replies: Sequence[Writing]) -> Assessment:
    """The mean of the replies' scores; the details say how many replies have one, and the notes hold all of them."""
    scores = [score for reply in replies if not reply.reason and (score := written_score(reply.text)) is not None]
    details = {"replies_with_score": float(len(scores))}
    notes = {"replies": [reply.text for reply in replies]}
    if not scores:
        reason = next((reply.reason for reply in replies if reply.reason), NO_SCORE_WRITTEN)
        return Assessment(None, details, notes, reason)
    return Assessment(sum(scores) / len(scores), details, notes)


def written_score(reply: str) -> float | None:
    """The last `Score: N` or `Score: N/5` in a judge's reply; None if there is none or it is not from 0 to 5.

    Only the reply is read, not the judged answer. An earlier score in the reply (such as a quoted one) does not count. If the
    last one is out of range, the score is missing; the one before is not used instead.
    """
    found = list(_SCORE.finditer(reply))
    if not found:
        return None
    value, of = float(found[-1][1]), found[-1][2]
    return value if LOWEST <= value <= HIGHEST and of in (None, "5") else None
