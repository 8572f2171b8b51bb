"""A jury: several judges, whose verdicts on a pair are combined, and whose disagreement is recorded."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, ClassVar

from alignflow.data.artifacts import canonical_json, text_digest
from alignflow.data.configs.generation import JudgeConfig
from alignflow.data.configs.judges import JuryOptions
from alignflow.data.errors import DataError
from alignflow.data.own_module import short
from alignflow.data.reward_ensembles import DISAGREEMENT
from alignflow.models.generation.base import generator_identity
from alignflow.models.judges.base import (
    IDENTICAL,
    Candidate,
    Judge,
    JudgeInputs,
    Verdict,
    flags_of,
    judge_row,
    make_judge,
    own_source,
    settled,
)
from alignflow.models.judges.blanks import same_answer

TOO_FEW = "too few members of the jury gave a label"
NO_LABEL = "members_without_label"
_SURE = 1e-3  # an accuracy of 1 on few gold labels must not outweigh all others

Pair = tuple[Candidate, Candidate]


class Jury:
    """P(first) from the members' probabilities: their mean, the share of votes, or the weighted mean.

    A member whose preference changes with the order counts as one half. `parts` has each member's probability, the standard deviation over
    members as `disagreement`, and how many gave no label, if any.
    """

    pointwise: ClassVar[bool] = False
    seats: ClassVar[bool] = False  # one number for both orders: each member combines its orders before it votes

    def __init__(self, options: JuryOptions, inputs: JudgeInputs):
        self._votes, self._quorum = options.combine == "majority", options.quorum
        self._names = member_names(options.judges)
        reports = [Path(member.agreement) for member in options.judges if member.agreement is not None]
        self._weights = weights_of_agreement(reports) if reports else [member.weight for member in options.judges]
        with ExitStack() as stack:
            self._members: list[Judge] = [
                stack.enter_context(
                    closing(make_judge(each, policy=inputs.policy, reward_model=inputs.reward_model, run=inputs.run))
                )
                for each in options.judges
            ]
            self._opened = stack.pop_all()
        who = [_identity(each, judge) for each, judge in zip(options.judges, self._members, strict=True)]
        self.fingerprint = text_digest(canonical_json([who, self._weights]))

    def compare(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """One verdict for each pair; without a label for equal answers, or if fewer than `quorum` members gave a label."""
        asked = [pair for pair in pairs if not same_answer(pair[0].text, pair[1].text)]
        columns = [member.compare(asked) for member in self._members]
        combined = iter([self._combined(verdicts) for verdicts in zip(*columns, strict=True)])
        return [
            Verdict(None, reason=IDENTICAL) if same_answer(pair[0].text, pair[1].text) else next(combined)
            for pair in pairs
        ]

    def score(self, candidates: Sequence[Candidate]) -> list[float | None]:
        """No score: a jury compares."""
        return [None for _ in candidates]

    def probability(self, first: float, second: float) -> float:
        """No score, so no probability from scores; raises TypeError."""
        raise TypeError("a jury has no scores")

    def details(self, candidates: Sequence[Candidate]) -> list[dict[str, float]]:
        """No parts of single answers."""
        return [{} for _ in candidates]

    def flags(self, candidates: Sequence[Candidate]) -> list[list[str]]:
        """The marks in each answer that any member finds."""
        found = [marks for member in self._members if (marks := flags_of(member, candidates)) is not None]
        return [sorted(set().union(*each)) for each in zip(*found, strict=True)] if found else [[] for _ in candidates]

    def close(self) -> None:
        """Free the members' models."""
        self._opened.close()

    def _combined(self, verdicts: Sequence[Verdict]) -> Verdict:
        labelled = [
            (name, weight, verdict)
            for name, weight, verdict in zip(self._names, self._weights, verdicts, strict=True)
            if verdict.probability is not None
        ]
        missing = len(verdicts) - len(labelled)
        parts = {name: _own(verdict) for name, _, verdict in labelled}
        if missing:
            parts[NO_LABEL] = float(missing)
        if len(labelled) < self._quorum or not any(weight for _, weight, _ in labelled):
            reasons = sorted({verdict.reason for verdict in verdicts if verdict.reason})
            return Verdict(None, reason=f"{TOO_FEW} ({', '.join(reasons)})" if reasons else TOO_FEW, parts=parts)
        weights = [weight for _, weight, _ in labelled]
        said = [_own(verdict) for _, _, verdict in labelled]
        if self._votes:
            said = [1.0 if each > 0.5 else 0.0 if each < 0.5 else 0.5 for each in said]
        probability = settled(math.fsum(map(math.prod, zip(weights, said, strict=True))) / math.fsum(weights))
        parts[DISAGREEMENT] = statistics.pstdev([_own(verdict) for _, _, verdict in labelled])
        principles = {verdict.principle for verdict in verdicts} - {""}
        rationales = [
            "\n\n".join(
                f"{name}: {verdict.rationales[order]}" for name, _, verdict in labelled if verdict.rationales[order]
            )
            for order in (0, 1)
        ]
        return Verdict(
            probability,
            orders=(probability, probability),
            rationales=(rationales[0], rationales[1]),
            principle=principles.pop() if len(principles) == 1 else "",
            parts=parts,
        )


def _own(verdict: Verdict) -> float:
    """The probability of a member with a label: one half if its preference changes with the order."""
    return 0.5 if verdict.flips or verdict.probability is None else verdict.probability


def _identity(config: JudgeConfig, judge: Judge) -> list[Any]:
    """What a member's verdicts depend on."""
    return [
        short(config.name),
        own_source(config.name),
        dict(config.options),
        judge.fingerprint,
        judge_row(config.name).version,
        generator_identity(config.generator),
    ]


def member_names(judges: Sequence[JudgeConfig]) -> list[str]:
    """Each member's name: its judge's name, with a number if several have the same judge."""
    names = [short(config.name) for config in judges]
    return [
        name if names.count(name) == 1 else f"{name}#{names[: place + 1].count(name)}"
        for place, name in enumerate(names)
    ]


def weights_of_agreement(reports: Sequence[Path]) -> list[float]:
    """The log-odds of each member's accuracy against gold labels: the optimal weights of independent votes (Nitzan and Paroush 1982).

    A member at chance level or below has weight 0.

    Raises:
        DataError: a report has no accuracy, or no member is better than chance.
    """
    accuracies = [_accuracy(path) for path in reports]
    bounded = [min(max(accuracy, 0.5), 1 - _SURE) for accuracy in accuracies]
    weights = [math.log(accuracy / (1 - accuracy)) for accuracy in bounded]
    if not any(weights):
        raise DataError(
            "no member of the jury agrees with gold labels more often than by chance",
            where="judge.options.judges",
            do="use other judges, or set combine to mean",
        )
    return weights


def _accuracy(path: Path) -> float:
    """Accuracy of the one judge of a report, which is a JSON file or the directory of judge_report.json."""
    file = path / "judge_report.json" if path.is_dir() else path
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        (report,) = content["reports"]  # one judge
        value = float(report["agreement"]["accuracy"]["rate"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"no accuracy against gold labels can be read ({type(error).__name__})",
            where=str(file),
            do="use the report of `alignflow judge-eval` on a file with human_preference",
        ) from None
    if not 0 <= value <= 1:
        raise DataError(f"an accuracy of {value}", where=str(file), do="use the report of `alignflow judge-eval`")
    return value
