"""Base classes of judges that ask a language model: the model, the marks to look for in answers, and scores by questions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from alignflow.data.artifacts import text_digest
from alignflow.data.configs.judges import ScoringOptions
from alignflow.data.configs.options import JudgeModelOptions
from alignflow.models.judges.base import Assessment, Candidate, JudgeInputs, PointwiseJudge, needed_model, sigmoid
from alignflow.models.judges.judge_model import JudgeModel, make_judge_model
from alignflow.models.judges.marks import Marks
from alignflow.models.judges.questions import QuestionTemplate

FLAGGED = "has the judge's marks"


class AskingJudge:
    """A language model with questions.

    Args:
        options: The judge's options.
        inputs: The default models, and the engine.
        name: Its name in the catalogue.
        templates: Option -> the question of this name.
        options_read: Answers whose probabilities are read; each must be one token of the model.
    """

    def __init__(
        self,
        options: JudgeModelOptions,
        inputs: JudgeInputs,
        name: str,
        templates: Mapping[str, QuestionTemplate],
        options_read: Sequence[str] = (),
    ):
        self._model: JudgeModel = make_judge_model(
            needed_model(options.model, inputs.policy, name, "a model"), options, inputs.generator, inputs.run
        )
        if options_read:
            self._model.check_options(options_read)
        self._templates = templates
        self.fingerprint = text_digest(
            "".join(template.source for template in templates.values()) + self._model.identity
        )
        self._marks = Marks(options_read, self._model.control_tokens, scores=not options_read)

    def flags(self, candidates: Sequence[Candidate]) -> list[list[str]]:
        """Names of the marks in each answer; see marks.py."""
        return [self._marks.of(candidate.text) for candidate in candidates]

    @property
    def usage(self) -> Mapping[str, Any] | None:
        """Requests to an endpoint and their cost; None for a local model, whose tokens the stage counts."""
        return getattr(self._model, "usage", None)

    def close(self) -> None:
        """Free the model's memory."""
        self._model.close()


class ScoringJudge(AskingJudge, PointwiseJudge):
    """A language model that scores single answers: P(first) = sigmoid((score_1 - score_2) / temperature)."""

    pointwise: ClassVar[bool] = True

    def __init__(
        self,
        options: ScoringOptions,
        inputs: JudgeInputs,
        name: str,
        templates: Mapping[str, QuestionTemplate],
        options_read: Sequence[str] = (),
    ):
        super().__init__(options, inputs, name, templates, options_read)
        self._temperature, self._drops = options.temperature, options.flagged == "drop"

    def assess(self, candidates: Sequence[Candidate]) -> list[Assessment]:
        """The model's assessment of each answer; an answer that is dropped for its marks is not asked about, and has no score."""
        flagged = [self._drops and bool(marks) for marks in self.flags(candidates)]
        asked = iter(self._assess([each for each, drop in zip(candidates, flagged, strict=True) if not drop]))
        return [Assessment(None, reason=FLAGGED) if drop else next(asked) for drop in flagged]

    @abstractmethod
    def _assess(self, candidates: Sequence[Candidate]) -> list[Assessment]:
        """The model's assessment of each answer."""

    def score(self, candidates: Sequence[Candidate]) -> list[float | None]:
        """The scores alone."""
        return [found.score for found in self.assess(candidates)]

    def details(self, candidates: Sequence[Candidate]) -> list[dict[str, float]]:
        """Named parts of the scores."""
        return [dict(found.details) for found in self.assess(candidates)]

    def probability(self, first: float, second: float) -> float:
        """P(first is better); equal scores give exactly 0.5, a tie."""
        return sigmoid((first - second) / self._temperature)


def weighted_mean(values: Sequence[float], weights: Sequence[float]) -> float:
    """The weighted mean of some numbers."""
    return sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)


def once_each(keys: Sequence[Any], make: Callable[[list[int]], Sequence[Any]]) -> list[Any]:
    """One result for each key, made once for equal keys; `make` gets the first position of each key."""
    first: dict[Any, int] = {}
    for place, key in enumerate(keys):
        first.setdefault(key, place)
    made = dict(zip(first, make(list(first.values())), strict=True))
    return [made[key] for key in keys]
