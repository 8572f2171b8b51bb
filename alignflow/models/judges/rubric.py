"""The rubric judge: a constitution in YAML, and the weighted mean of its principles' scores. No model, no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from alignflow.data.artifacts import file_digest, text_digest
from alignflow.data.catalogue import suggest
from alignflow.data.configs.base import StageConfig
from alignflow.data.configs.options import RubricOptions
from alignflow.data.constitution import constitution_path, lexicon_path, read_constitution
from alignflow.data.errors import DataError
from alignflow.models.judges.base import Candidate, JudgeInputs, PointwiseJudge, sigmoid
from alignflow.models.judges.lexicons import read_lexicon
from alignflow.models.judges.principles import PRINCIPLES

# A veto leaves a part of the score, so that two answers which both break a principle can still differ.
_LEFT = 0.05


class _PrincipleEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    name: str = Field(min_length=1)
    kind: str
    weight: float = Field(default=1.0, gt=0, le=1e6)
    veto: bool = False
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_one_role(self) -> _PrincipleEntry:
        if self.veto and "weight" in self.model_fields_set:
            raise ValueError(
                "a principle with veto: true multiplies the score and has no weight; remove one of the two"
            )
        return self


class _ConstitutionFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1)
    description: str = ""
    principles: list[_PrincipleEntry] = Field(min_length=1)


@dataclass(frozen=True)
class Principle:
    """One entry of a constitution: a named kind with its options, and either a weight in the mean or a veto."""

    name: str
    kind: str
    weight: float
    veto: bool
    options: StageConfig

    def score(self, candidate: Candidate) -> float:
        """How well the answer keeps this principle, in [0, 1]."""
        return PRINCIPLES[self.kind].score(candidate, self.options)


@dataclass(frozen=True)
class Constitution:
    """A named set of principles; the score of an answer is the weighted mean of those without a veto, times the score of each with one."""

    name: str
    description: str
    principles: tuple[Principle, ...]

    def details(self, candidate: Candidate) -> dict[str, float]:
        """The score of each principle by its name."""
        return {principle.name: principle.score(candidate) for principle in self.principles}

    def score(self, details: dict[str, float]) -> float:
        """The weighted mean of the principles' scores, times those that have a veto, in [0, 1]."""
        weighted = [principle for principle in self.principles if not principle.veto]
        total = sum(principle.weight for principle in weighted)
        mean = sum(principle.weight * details[principle.name] for principle in weighted) / total
        return mean * math.prod(max(_LEFT, details[principle.name]) for principle in self.principles if principle.veto)


class RubricJudge(PointwiseJudge):
    """Scores by named, weighted, checkable principles: P(first) = sigmoid((score_1 - score_2) / temperature)."""

    def __init__(self, options: RubricOptions, inputs: JudgeInputs):
        self.constitution = load_constitution(options.constitution)
        self.fingerprint = text_digest(repr(self.constitution.principles) + _lexicons(self.constitution))
        self._temperature = options.temperature

    def score(self, candidates: Sequence[Candidate]) -> list[float | None]:
        """Weighted means in [0, 1]."""
        return [self.constitution.score(details) for details in self.details(candidates)]

    def probability(self, first: float, second: float) -> float:
        """P(first is better); equal scores give exactly 0.5, a tie."""
        return sigmoid((first - second) / self._temperature)

    def details(self, candidates: Sequence[Candidate]) -> list[dict[str, float]]:
        """The principles' scores by name."""
        return [self.constitution.details(candidate) for candidate in candidates]


def load_constitution(name_or_path: str) -> Constitution:
    """Read and check a constitution; raises DataError that names the file, the principle and the field.

    A lexicon's path is relative to the constitution's directory.
    """
    path = constitution_path(name_or_path)
    content = read_constitution(path)
    try:
        file = _ConstitutionFile.model_validate(content)
    except ValidationError as error:
        raise _schema_error(error, path) from None
    names = [entry.name for entry in file.principles]
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise DataError(
            f"two principles are called {double[0]!r}", where=f"{path}: principles", do="give each a different name"
        )
    if all(entry.veto for entry in file.principles):
        advice = "remove veto from one: the score is the mean of those without it, times those with it"
        raise DataError("every principle has a veto, so there is no mean", where=f"{path}: principles", do=advice)
    return Constitution(file.name, file.description, tuple(_principle(entry, path) for entry in file.principles))


def _lexicons(constitution: Constitution) -> str:
    paths = sorted({getattr(principle.options, "lexicon", None) or "" for principle in constitution.principles} - {""})
    return "".join(file_digest(Path(path)) for path in paths)


def shared_principles(first: Constitution, second: Constitution) -> list[str]:
    """Kinds and names of principles that two constitutions have in common; a judge without any is independent."""
    kinds = {principle.kind for principle in first.principles} & {principle.kind for principle in second.principles}
    names = {principle.name for principle in first.principles} & {principle.name for principle in second.principles}
    return sorted(kinds | names)


def _principle(entry: _PrincipleEntry, path: Path) -> Principle:
    where = f"{path}: principle {entry.name!r}"
    if entry.kind not in PRINCIPLES:
        raise DataError(f"unknown kind {entry.kind!r}", where=f"{where}, kind", do=suggest(entry.kind, PRINCIPLES))
    model = PRINCIPLES[entry.kind].options
    options = dict(entry.options)
    if isinstance(options.get("lexicon"), str):
        options["lexicon"] = str(lexicon_path(path, options["lexicon"]))
    try:
        parsed = model.model_validate(options)
    except ValidationError as error:
        first = _most_telling(error)
        field = ".".join(("options", *map(str, first["loc"])))
        known = (
            suggest(str(first["loc"][-1]), model.model_fields)
            if first["type"] == "extra_forbidden" and model.model_fields
            else ""
        )
        raise DataError(first["msg"], where=f"{where}, {field}", do=known) from None
    if lexicon := getattr(parsed, "lexicon", None):
        read_lexicon(lexicon)  # a missing lexicon must be found before anything is judged
    return Principle(entry.name, entry.kind, entry.weight, entry.veto, parsed)


def _schema_error(error: ValidationError, path: Path) -> DataError:
    first = _most_telling(error)
    field = ".".join(str(part) for part in first["loc"])
    known = _PrincipleEntry if len(first["loc"]) > 1 else _ConstitutionFile
    advice = suggest(str(first["loc"][-1]), known.model_fields) if first["type"] == "extra_forbidden" else ""
    return DataError(first["msg"], where=f"{path}: {field}", do=advice)


def _most_telling(error: ValidationError) -> Any:
    """Sorts the error of a misspelt key before that of the key that is missing because of it."""
    errors = error.errors()
    return next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
