"""Inputs and results of evaluators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scipy.stats import t as student

from alignflow.data.configs.generation import EvaluateConfig, JudgeConfig
from alignflow.data.rendering import encode_turn
from alignflow.data.run import Run
from alignflow.models.batching import EncodedRow
from alignflow.models.policy import Policy, load_frozen

if TYPE_CHECKING:
    from alignflow.models.judges.base import Verdict

MODELS = ("aligned", "sft")


@dataclass(frozen=True)
class Answer:
    """One model's answer to one prompt."""

    text: str
    ended: bool
    tokens: int


@dataclass
class EvaluationInputs:
    """Everything that an evaluator may read.

    Attributes:
        config: The stage's config.
        prompts: Rows of the prompts table.
        answers: Model (`aligned`, `sft`) -> one answer per prompt.
        paths: Model -> its checkpoint.
        general: Directory of general text, or None.
        reward_model: Directory of the reward model, or None.
        run: Runtime, progress and warnings.
    """

    config: EvaluateConfig
    prompts: list[dict[str, Any]]
    answers: dict[str, list[Answer]]
    paths: dict[str, Path]
    general: Path | None
    reward_model: Path | None
    run: Run
    _loaded: tuple[str, Policy] | None = field(default=None, repr=False)

    def policy(self, name: str) -> Policy:
        """The checkpoint of a model; one at a time is in memory."""
        if self._loaded is None or self._loaded[0] != name:
            self._loaded = None
            self._loaded = (name, load_frozen(self.paths[name], self.run.runtime))
        return self._loaded[1]

    def encoded(self, model: str) -> list[tuple[int, EncodedRow]]:
        """The answers of a model as the aligned model's tokenizer has them, each with the number of its prompt; those without a token
        are left out."""
        tokenizer = self.policy("aligned").tokenizer
        found = []
        for number, (row, answer) in enumerate(zip(self.prompts, self.answers[model], strict=True)):
            turn = encode_turn(tokenizer, row["prompt"], answer.text, ended=answer.ended)
            if turn.completion_ids:
                found.append((number, EncodedRow(tuple(turn.prompt_ids), tuple(turn.completion_ids))))
        return found

    @property
    def judges(self) -> list[JudgeConfig]:
        """The labelling judge first, if there is one, then the others."""
        first = [self.config.labelling_judge] if self.config.labelling_judge else []
        return [*first, *self.config.judges]


@dataclass(frozen=True)
class Evaluation:
    """An evaluator's result.

    Attributes:
        metrics: Flat names -> numbers, for the manifest.
        details: Everything, for evaluation.json.
        verdicts: Judge -> its verdict on (aligned, sft) for each prompt, in the order of the prompts.
        rewards: Model -> the reward model's score of its answer to each prompt, in the same order.
    """

    metrics: dict[str, float | None]
    details: dict[str, Any]
    verdicts: dict[str, list[Verdict]] = field(default_factory=dict)
    rewards: dict[str, list[float]] = field(default_factory=dict)


def mean_interval(values: Sequence[float], confidence: float) -> dict[str, float | None]:
    """Mean and Student's t interval; None if there are too few values."""
    count = len(values)
    mean = sum(values) / count if count else None
    if mean is None or count < 2:
        return {"mean": mean, "low": None, "high": None}
    error = (sum((value - mean) ** 2 for value in values) / (count - 1) / count) ** 0.5
    half = float(student.ppf((1 + confidence) / 2, count - 1)) * error
    return {"mean": mean, "low": mean - half, "high": mean + half}
