"""Chooses the prompts of an evaluation to show to a person, with all verdicts and rewards of their answers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from alignflow.data.artifacts import text_digest
from alignflow.models.evaluators.base import MODELS, EvaluationInputs
from alignflow.models.evaluators.win_rate import outcome
from alignflow.models.judges.asking import said
from alignflow.models.judges.base import Verdict

WIN, LOSS, RANDOM = "clearest win", "clearest loss", "random"
REWARD_MODEL = "reward model"
SHARE = 4
"""One sample in so many is a clearest win, and one in so many a clearest loss."""
OUTCOMES = {1.0: "aligned", 0.5: "tie", 0.0: "sft", None: ""}

Clearness = tuple[float, float]


@dataclass
class Seen:
    """Verdicts and rewards of the answers, and how many prompts to show.

    Attributes:
        number: Prompts to show.
        seed: Decides, with a prompt's id, which of the other prompts are shown.
        labelling: Whether the first judge made the labels.
        verdicts: Judge -> its verdict on (aligned, sft) for each prompt.
        rewards: Model -> the reward model's score of its answer to each prompt.
    """

    number: int
    seed: int
    labelling: bool
    verdicts: dict[str, list[Verdict]] = field(default_factory=dict)
    rewards: dict[str, list[float]] = field(default_factory=dict)

    @property
    def by(self) -> str:
        """Who says which wins and losses are clear: the first judge that did not make the labels, else the one that did, else the reward model;
        empty where nobody compared the answers."""
        judges = list(self.verdicts)
        if judges:
            return judges[1] if self.labelling and len(judges) > 1 else judges[0]
        return REWARD_MODEL if self.rewards else ""


def shown_samples(inputs: EvaluationInputs, seen: Seen) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The samples, random ones first, and how they were chosen.

    Returns:
        A row for each sample: `id`, `prompt`, the answer of each model, `picked` (why it is shown), `verdicts` and `rewards`. Then `by`,
        `seed`, `prompts` (of how many) and `picked` (how many of each kind).
    """
    picked = chosen([row["id"] for row in inputs.prompts], _clearness(seen), seen.number, seen.seed)
    samples = [
        {
            "id": inputs.prompts[index]["id"],
            "prompt": inputs.prompts[index]["prompt"],
            **{model: inputs.answers[model][index].text for model in MODELS},
            "picked": why,
            "verdicts": [_verdict(judge, verdicts[index]) for judge, verdicts in seen.verdicts.items()],
            "rewards": {model: _finite(scores[index]) for model, scores in seen.rewards.items()},
        }
        for index, why in picked.items()
    ]
    kinds = list(picked.values())
    counts = {kind: kinds.count(kind) for kind in (WIN, LOSS, RANDOM)}
    return samples, {"by": seen.by, "seed": seen.seed, "prompts": len(inputs.prompts), "picked": counts}


def chosen(ids: Sequence[str], clearness: Sequence[Clearness | None], number: int, seed: int) -> dict[int, str]:
    """Index -> why it is shown: a quarter of `number` are the clearest wins, a quarter the clearest losses, the rest is random by the seed.

    Args:
        ids: Ids of the prompts.
        clearness: How clearly the aligned model won each prompt, the larger the clearer; below 0 it lost. None: neither.
        number: How many to show; all, if there are fewer.
        seed: The same seed picks the same rows.
    """
    decided = [(clear, index) for index, clear in enumerate(clearness) if clear is not None]
    wins = sorted((place for place in decided if place[0] > (0.0, 0.0)), key=lambda place: (-place[0][0], -place[0][1]))
    losses = sorted(place for place in decided if place[0] < (0.0, 0.0))
    ends = {index: kind for kind, found in ((WIN, wins), (LOSS, losses)) for _, index in found[: number // SHARE]}
    others = sorted(
        (index for index in range(len(ids)) if index not in ends), key=lambda index: text_digest(f"{seed}:{ids[index]}")
    )
    return {**dict.fromkeys(others[: number - len(ends)], RANDOM), **ends}


def _clearness(seen: Seen) -> list[Clearness | None]:
    """For each prompt how far the probability is from one half, and then how far apart the scores are."""
    if seen.by in seen.verdicts:
        return [_clear(verdict) for verdict in seen.verdicts[seen.by]]
    if not seen.rewards:
        return []
    gaps = [first - second for first, second in zip(*(seen.rewards[model] for model in MODELS), strict=True)]
    return [(gap, 0.0) if gap and math.isfinite(gap) else None for gap in gaps]


def _clear(verdict: Verdict) -> Clearness | None:
    if verdict.probability is None or not verdict.decided:
        return None
    first, second = verdict.scores
    return verdict.probability - 0.5, 0.0 if first is None or second is None else first - second


def _verdict(judge: str, verdict: Verdict) -> dict[str, Any]:
    """A judge's verdict on a pair for people: `better` is the model that it prefers, tie, or empty for no label."""
    given, swapped = verdict.rationales
    return {
        "judge": judge,
        "better": OUTCOMES[outcome(verdict)],
        "probability": verdict.probability,
        "orders": list(verdict.orders),
        "flips": verdict.flips,
        "scores": dict(zip(MODELS, map(_finite, verdict.scores), strict=True)),
        "reason": verdict.reason,
        "rationales": [text for text in (given, swapped) if text],
    }


def _finite(score: float | None) -> float | None:
    return score if score is not None and math.isfinite(score) else None


def verdict_rows(
    prompts: Sequence[Mapping[str, Any]], verdicts: Mapping[str, Sequence[Verdict]]
) -> Iterator[dict[str, Any]]:
    """Rows of the table of verdicts: each judge on each prompt; the first answer is the aligned model's."""
    for judge, found in verdicts.items():
        for row, verdict in zip(prompts, found, strict=True):
            yield {
                "id": row["id"],
                "judge": judge,
                "probability": verdict.probability,
                "given": verdict.orders[0],
                "swapped": verdict.orders[1],
                "mass_given": verdict.masses[0],
                "mass_swapped": verdict.masses[1],
                "reason": verdict.reason,
                **said(verdict),
            }
