"""The judge protocol: candidates in, verdicts with probabilities out. A judge does no I/O except to load."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

from alignflow.data import catalogue, own_module
from alignflow.data.artifacts import text_digest
from alignflow.data.configs.generation import JudgeConfig
from alignflow.data.configs.generators import GeneratorConfig
from alignflow.data.configs.options import NoOptions
from alignflow.data.errors import RecipeError
from alignflow.data.judging.outcomes import flipped, settled
from alignflow.data.run import Run
from alignflow.models.judges.blanks import same_answer

IDENTICAL = "identical"
NO_SCORE = "no score"


@dataclass(frozen=True)
class Candidate:
    """One answer to be judged: the conversation before it, its text, whether it ended by itself, and a reference answer if there is one."""

    prompt: Sequence[Mapping[str, str]]
    text: str
    ended: bool = True
    reference: str = ""


@dataclass(frozen=True)
class Verdict:
    """A judge's verdict on a pair (first, second).

    Attributes:
        probability: P(first is better); exactly 0.5 is a tie, None is no label (never 0.5 instead). A verdict that
            `flips` is a tie as well.
        scores: Scores of first and second, for pointwise judges.
        orders: P(first is better), asked with first in the first position, and asked with the positions swapped.
        reason: Why there is no label; empty if there is one.
        masses: The judge's total probability of its options, in each order; None for a judge that
            is not asked for options. If it is low, the judge did not answer the question.
        rationales: What the judge wrote before its verdict, in each order; empty if it wrote nothing.
        principle: Name of the principle that the judge used; empty if there is none, or several.
        parts: P(first is better) by each principle, or by each member of a jury, and figures about them.
    """

    probability: float | None
    scores: tuple[float | None, float | None] = (None, None)
    orders: tuple[float | None, float | None] = (None, None)
    reason: str = ""
    masses: tuple[float | None, float | None] = (None, None)
    rationales: tuple[str, str] = ("", "")
    principle: str = ""
    parts: Mapping[str, float] = field(default_factory=dict)

    @property
    def flips(self) -> bool:
        """Whether the preferred answer changes with the order; an order that prefers neither answer does not count.

        Such a verdict is a tie, whatever the mean of the two orders is (Zheng et al. 2023, arXiv 2306.05685, section 3.4).
        """
        return flipped(self.orders)

    @property
    def decided(self) -> bool:
        """Whether there is a label that is not a tie."""
        return self.probability is not None and self.probability != 0.5 and not self.flips


@dataclass(frozen=True)
class Assessment:
    """A pointwise judge's assessment of one answer.

    Attributes:
        score: Higher is better; None if there is none.
        details: Named parts of the score.
        notes: Other output of the judge, by name: JSON values.
        reason: Why there is no score; empty if there is one, or the judge does not say.
        mass: The judge's total probability of its options, mean over its questions; None for a judge without options.
    """

    score: float | None
    details: Mapping[str, float] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    mass: float | None = None


@dataclass(frozen=True)
class JudgeInputs:
    """The artifacts that a judge uses by default, and its runtime.

    Attributes:
        policy: The SFT model, or None if the recipe has none.
        reward_model: The recipe's reward model, or None.
        run: Device and warnings; a judge writes no files.
        generator: The engine of a judge that asks a language model; None means transformers.
    """

    policy: Path | None
    reward_model: Path | None
    run: Run
    generator: GeneratorConfig | None = None


class Judge(Protocol):
    """Compares answers. Constructed as `Class(options, inputs)`: the validated options, and JudgeInputs.

    Attributes:
        pointwise: Whether it scores single answers; only then `score` and `probability` are meaningful.
        fingerprint: What its raw labels depend on besides name and options (the content of files that these name), so
            that the row journal never uses another judge's labels.
    """

    pointwise: ClassVar[bool]
    fingerprint: str

    def compare(self, pairs: Sequence[tuple[Candidate, Candidate]]) -> list[Verdict]:
        """One verdict per pair; if a pair is swapped, its verdict is mirrored."""

    def score(self, candidates: Sequence[Candidate]) -> list[float | None]:
        """One score per candidate; None if there is none."""

    def probability(self, first: float, second: float) -> float:
        """P(first is better) from two scores; exactly 0.5 for equal ones."""

    def details(self, candidates: Sequence[Candidate]) -> list[dict[str, float]]:
        """Named parts of each candidate's score; empty if the judge has none."""

    def close(self) -> None:
        """Free models."""


class PointwiseJudge(ABC):
    """A judge that scores single answers: a subclass implements only `score` and `probability`."""

    pointwise: ClassVar[bool] = True
    fingerprint: str = ""

    @abstractmethod
    def score(self, candidates: Sequence[Candidate]) -> list[float | None]:
        """One score per candidate; None if there is none."""

    @abstractmethod
    def probability(self, first: float, second: float) -> float:
        """P(first is better) from two scores; exactly 0.5 for equal ones."""

    def details(self, candidates: Sequence[Candidate]) -> list[dict[str, float]]:
        """No parts."""
        return [{} for _ in candidates]

    def compare(self, pairs: Sequence[tuple[Candidate, Candidate]]) -> list[Verdict]:
        """Verdicts from the scores; a score does not depend on the position, so both orders are equal."""
        found = assess(self, [candidate for pair in pairs for candidate in pair])
        return [
            verdict_of_assessments(self, pair, (found[2 * index], found[2 * index + 1]))
            for index, pair in enumerate(pairs)
        ]

    def close(self) -> None:  # noqa: B027 (a judge without a model has nothing to free)
        """Nothing to free."""


def knows_seats(judge: Judge) -> bool:
    """Whether the two orders of its verdicts are two questions: not for a judge that scores single answers, nor for a jury."""
    return not judge.pointwise and bool(getattr(judge, "seats", True))


def flags_of(judge: Judge, candidates: Sequence[Candidate]) -> list[list[str]] | None:
    """Names of the marks in each answer by which it may try to steer the judge; None for a judge that does not read text.

    A judge that reads answers as text has a method `flags` for it; a rubric or a reward model has none.
    """
    flags = getattr(judge, "flags", None)
    return flags(candidates) if callable(flags) else None


def assess(judge: Judge, candidates: Sequence[Candidate]) -> list[Assessment]:
    """A pointwise judge's assessment of each answer; a judge may have a method `assess` that avoids asking twice.

    A score that is not finite becomes None.
    """
    own = getattr(judge, "assess", None)
    if callable(own):
        found: list[Assessment] = own(candidates)
    else:
        scores, details = judge.score(candidates), judge.details(candidates)
        found = [Assessment(score, detail) for score, detail in zip(scores, details, strict=True)]
    return [each if each.score is None or math.isfinite(each.score) else replace(each, score=None) for each in found]


def verdict_of_assessments(
    judge: Judge, pair: tuple[Candidate, Candidate], found: tuple[Assessment, Assessment]
) -> Verdict:
    """The verdict of a pointwise judge on a pair, from its assessments of the two answers."""
    verdict = verdict_from_scores(judge, pair, (found[0].score, found[1].score))
    if verdict.reason == NO_SCORE:
        verdict = replace(verdict, reason=found[0].reason or found[1].reason or NO_SCORE)
    return verdict if verdict.reason == IDENTICAL else replace(verdict, masses=(found[0].mass, found[1].mass))


def verdict_from_scores(
    judge: Judge, pair: tuple[Candidate, Candidate], scores: tuple[float | None, float | None]
) -> Verdict:
    """The verdict of a pointwise judge on a pair with known scores."""
    first, second = scores
    if same_answer(pair[0].text, pair[1].text):
        return Verdict(None, scores, reason=IDENTICAL)
    if first is None or second is None:
        return Verdict(None, scores, reason=NO_SCORE)
    probability = settled(judge.probability(first, second))
    return Verdict(probability, scores, (probability, probability))


def sigmoid(value: float) -> float:
    """1 / (1 + exp(-value)), without overflow; exactly 0.5 at 0, and sigmoid(x) + sigmoid(-x) = 1 up to rounding."""
    if value >= 0:
        return 1.0 / (1.0 + math.exp(-value))
    return math.exp(value) / (1.0 + math.exp(value))


@dataclass(frozen=True)
class _OwnJudge(catalogue.JudgeRow):
    """The catalogue row of a user's own judge, which may be in a file."""

    def resolve(self) -> Callable[..., Any]:
        """Import and return the class."""
        return own_module.load(self.address)


def judge_row(name: str, where: str = "judge.name") -> catalogue.JudgeRow:
    """The catalogue's row for a judge, or a row for a user's own class, named `file.py:Class` or `package.module:Class`.

    Such a class takes `(options, inputs)` as every judge does; its attribute `Options` (a StageConfig) validates the
    options. No version covers its source: the cache key has the digest of its module's source.

    Raises:
        RecipeError: The name is unknown, or the class cannot be imported.
    """
    if ":" not in name:
        return catalogue.look_up(catalogue.JUDGES, name, where)
    judge = own_module.load(name)
    lacks = [
        part
        for part in ("compare", "score", "probability", "details", "close")
        if not callable(getattr(judge, part, None))
    ]
    lacks += [attribute for attribute in ("pointwise", "fingerprint") if not hasattr(judge, attribute)]
    if lacks:
        advice = "derive from alignflow.models.judges.base.PointwiseJudge, or implement the Judge protocol"
        raise RecipeError(
            f"{own_module.short(name)} is not a judge: it lacks {', '.join(lacks)}", where=where, do=advice
        )
    return _OwnJudge(name, judge.__doc__ or name, options=getattr(judge, "Options", NoOptions))


def own_source(name: str) -> str:
    """Digest of the source of a user's own judge; empty for a judge of the catalogue, which has a version."""
    if ":" not in name:
        return ""
    return text_digest(own_module.source_file(name).read_text(encoding="utf-8", errors="replace"))


def make_judge(config: JudgeConfig, *, policy: Path | None, reward_model: Path | None, run: Run) -> Judge:
    """The judge that `config` names, loaded and ready; raises RecipeError for an unknown name, a wrong option or a missing input."""
    row = judge_row(config.name)
    options: Any = catalogue.parse_options(row, config.options, "judge.options")
    return row.resolve()(options, JudgeInputs(policy, reward_model, run, config.generator))


def needed_model(named: str | None, fallback: Path | None, judge: str, what: str) -> Path:
    """The model in a judge's options, otherwise the recipe's; raises RecipeError if there is neither."""
    if named is not None:
        return Path(named)
    if fallback is None:
        raise RecipeError(
            f"the judge {judge!r} needs {what}, and the recipe has none",
            where="judge.options.model",
            do="set it to a model",
        )
    return fallback
