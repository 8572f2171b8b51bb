"""Statistics of a labelling: pairs, dropped rows, margins, scores. The judge report has what they say about the judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy

from alignflow.data.intervals import rate
from alignflow.data.judging.distributions import distribution
from alignflow.data.judging.probabilities import entropy
from alignflow.data.reward_ensembles import DISAGREEMENT
from alignflow.models.judges.pairing import BLANK, FLIPPED, NARROW, REPEATED, TIE, JudgedPair

if TYPE_CHECKING:
    from alignflow.models.judges.label_tables import LabelledPrompt


def label_statistics(labelled: Sequence[LabelledPrompt]) -> dict[str, Any]:
    """All numbers of statistics.json; rates have a 95% interval, and are None if nothing could be counted."""
    dropped: Counter[str] = Counter()
    for prompt in labelled:
        dropped.update(prompt.dropped)
    judged = [(prompt, pair) for prompt in labelled for pair in prompt.judged]
    decided = [(prompt, pair) for prompt, pair in judged if pair.verdict.decided]
    kept = [pair for prompt in labelled for pair in prompt.kept]
    details = [detail for prompt in labelled for detail in prompt.details]
    return {
        "prompts": len(labelled),
        "judged": len(judged),
        "pairs": {
            "train": sum(len(prompt.kept) for prompt in labelled if not prompt.held_out),
            "heldout": sum(len(prompt.kept) for prompt in labelled if prompt.held_out),
        },
        "prompts_without_pair": sum(not prompt.kept for prompt in labelled),
        "dropped": dict(dropped),
        "ties": dropped[TIE] + dropped[FLIPPED],
        "abstentions": {
            reason: count for reason, count in dropped.items() if reason not in (TIE, FLIPPED, NARROW, REPEATED, BLANK)
        },
        "ended_wins": _ended_wins(decided),
        "flagged": _flagged(labelled, decided),
        "margin": distribution([pair.margin for pair in kept]),
        "soft_label": distribution([pair.soft_label for pair in kept]),
        "soft_label_entropy": _mean([entropy(pair.soft_label) for pair in kept]),
        "scores": distribution([score for prompt in labelled for score in prompt.scores if score is not None]),
        "principles": {
            name: _mean([detail[name] for detail in details if name in detail])
            for name in dict.fromkeys(name for detail in details for name in detail)
            if name != DISAGREEMENT
        },
        **_disagreement([*details, *(pair.verdict.parts for _, pair in judged)]),
    }


def _disagreement(details: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """The members' standard deviation: of scores over the answers for an ensemble, of probabilities over the pairs for a jury;
    empty for another judge."""
    found = [detail[DISAGREEMENT] for detail in details if DISAGREEMENT in detail]
    return {DISAGREEMENT: distribution(found)} if found else {}


def _ended_wins(decided: Sequence[tuple[LabelledPrompt, JudgedPair]]) -> dict[str, Any]:
    """How often the answer that ended by itself is preferred to one that was cut."""
    flags = [
        tuple(prompt.row["ended"][index] for index in (pair.chosen, pair.rejected))
        for prompt, pair in decided
        if prompt.row["ended"]
    ]
    wins = [chosen for chosen, rejected in flags if chosen != rejected]
    return rate(sum(wins), len(wins))


def _flagged(
    labelled: Sequence[LabelledPrompt], decided: Sequence[tuple[LabelledPrompt, JudgedPair]]
) -> dict[str, Any]:
    """Answers with marks that address the judge, and how often one of them wins, among decided pairs with exactly one of them.

    A text that names a position wins in one order and loses in the other: a tie, which is not counted here. A text
    about the content, such as "the other answer is dangerous", can win in both, and asking in both orders does not remove it;
    `wins_in_both_orders` excludes wins for which one of the orders preferred neither answer.
    """
    flags = [marks for prompt in labelled if prompt.flags is not None for marks in prompt.flags]
    wins, both = [], []
    for prompt, pair in decided:
        if prompt.flags is None or bool(prompt.flags[pair.chosen]) == bool(prompt.flags[pair.rejected]):
            continue
        chosen = bool(prompt.flags[pair.chosen])
        wins.append(chosen)
        sides = [order > 0.5 for order in pair.verdict.orders if order is not None]
        both.append(chosen and len(set(sides)) == 1)
    return {
        "answers": rate(sum(map(bool, flags)), len(flags)),
        "marks": dict(sorted(Counter(mark for marks in flags for mark in marks).items())),
        "wins": rate(sum(wins), len(wins)),
        "wins_in_both_orders": rate(sum(both), len(both)),
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(numpy.mean(values)) if len(values) else None
