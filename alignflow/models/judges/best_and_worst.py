"""The best and the worst answer to each prompt, with the probability that each beats an answer of the same policy: the data of self-play."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy

from alignflow.data.configs.generation import LabelConfig
from alignflow.data.dropped import kept_line
from alignflow.data.own_module import short
from alignflow.data.records import assistant, row_id, write_table
from alignflow.data.run import Run
from alignflow.models.judges.answer_labels import scored_answers
from alignflow.models.judges.base import IDENTICAL
from alignflow.models.judges.pairing import TIE

if TYPE_CHECKING:
    from alignflow.models.judges.label_tables import LabelledPrompt

FEW = "fewer than two answers with a score"
CLOSE = "win rates too near each other"
Extremes = tuple[int, int]
"""Positions of the best and the worst answer."""


def write_best_and_worst(
    sides: Iterable[tuple[str, Sequence[LabelledPrompt]]], config: LabelConfig, run: Run
) -> dict[str, Any]:
    """Write win_rates/SIDE.parquet, one row per prompt: preferences whose scores are win rates. Returns its part of statistics.json.

    Prompts whose best answer is no better than the worst one, or by less than `config.min_win_rate_gap`, are dropped and counted.
    """
    dropped, counts = Counter[str](), dict[str, Any]()
    for side, prompts in sides:
        rows = []
        for prompt in prompts:
            found = extremes(prompt, config.min_win_rate_gap)
            if isinstance(found, str):
                dropped[found] += 1
            else:
                rows.append(_row(prompt, found, short(config.judge.name)))
        write_table(rows, "preferences", run.out / "win_rates" / f"{side}.parquet")
        counts[side] = len(rows)
    if dropped:
        run.note(kept_line("prompts with a best and a worst answer", sum(counts.values()), dropped))
    return {"win_rates": {**counts, "dropped": dict(sorted(dropped.items()))}}


def extremes(labelled: LabelledPrompt, gap: float = 0.0) -> Extremes | str:
    """The best and the worst of a prompt's answers, the first of equal ones, or why there are none.

    A pointwise judge's scores decide, otherwise the win rates. Answers that have no score, are blank, or are the same text with another score
    are ignored (`scored_answers`). Scores are compared in fp32, as losses read them.
    """
    rates = win_rates_with_itself(labelled)
    pointwise = any(score is not None for score in labelled.scores)
    scores = labelled.scores if pointwise else rates
    places = [place for place in scored_answers(labelled).positions if scores[place] is not None]
    if len(places) < 2:
        return FEW
    found = extreme_places([scores[place] for place in places])  # type: ignore[misc]
    if found is None:
        return TIE
    best, worst = places[found[0]], places[found[1]]
    return CLOSE if numpy.float32(rates[best] - rates[worst]) < numpy.float32(gap) else (best, worst)


def extreme_places(scores: Sequence[float]) -> Extremes | None:
    """Positions of the highest and the lowest score, the first of equal ones; None if all are equal: the prompt is then dropped
    (Yuan et al. 2024, "Self-Rewarding Language Models", arXiv 2401.10020)."""
    seen = [float(numpy.float32(score)) for score in scores]
    return None if max(seen) == min(seen) else (seen.index(max(seen)), seen.index(min(seen)))


def win_rates_with_itself(labelled: LabelledPrompt) -> list[float]:
    """For each candidate the mean probability to beat a sample of the same policy: over the candidates that it was compared with, and itself.

    An answer meets itself, and copies of it, with probability 1/2 (Wu et al. 2024, "SPPO", arXiv 2405.00675: the mean is over all K samples).
    Pairs without a label do not count. Copies of a text have one win rate: otherwise, if not all pairs are compared, one copy could be preferred to another.
    """
    texts = labelled.row["completions"]
    found: dict[str, list[float]] = {text: [] for text in texts}
    for text in texts:
        found[text].append(0.5)
    for pair in labelled.judged:
        probability = 0.5 if pair.verdict.reason == IDENTICAL else pair.verdict.probability
        if probability is not None:
            found[texts[pair.first]].append(probability)
            found[texts[pair.second]].append(1 - probability)
    return [sum(found[text]) / len(found[text]) for text in texts]


def _row(labelled: LabelledPrompt, found: Extremes, judge: str) -> dict[str, Any]:
    row, rates = labelled.row, win_rates_with_itself(labelled)
    ended = row["ended"] or [True] * len(row["completions"])
    best, worst = found
    texts = row["completions"][best], row["completions"][worst]
    return {
        "id": row_id("best and worst", row["id"], texts[0], ended[best], texts[1], ended[worst]),
        "source": row["source"],
        "prompt": row["prompt"],
        "chosen": assistant(texts[0]),
        "rejected": assistant(texts[1]),
        "chosen_ended": ended[best],
        "rejected_ended": ended[worst],
        "soft_label": _direct(labelled, found),
        "margin": rates[best] - rates[worst],
        "score_chosen": rates[best],
        "score_rejected": rates[worst],
        "judge": judge,
    }


def _direct(labelled: LabelledPrompt, found: Extremes) -> float | None:
    """P(best beats worst) where the judge compared the two; None if it did not."""
    for pair in labelled.judged:
        if {pair.first, pair.second} == {*found} and pair.verdict.probability is not None:
            return pair.verdict.probability if pair.first == found[0] else 1 - pair.verdict.probability
    return None
