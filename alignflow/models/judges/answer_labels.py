"""Labels of single answers: their scores, rankings, and which of them are good and which bad."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy

from alignflow.data.configs.generation import AnswerLabelsConfig
from alignflow.data.records import assistant, row_id
from alignflow.models.judges.base import NO_SCORE
from alignflow.models.judges.blanks import is_blank

if TYPE_CHECKING:
    from alignflow.models.judges.label_tables import LabelledPrompt

BLANK_ANSWER = "blank answer"
TWO_SCORES = "same text with another score"
COPY = "same text as another answer"
TIED = "tie"
BETWEEN = "between good and bad"
BOTH = "among the best and the worst"

Dropped = dict[str, int]


@dataclass(frozen=True)
class ScoredAnswers:
    """The answers of a prompt that have a score.

    Attributes:
        positions: Their places among the prompt's candidates.
        scores: One for each; higher is better.
        dropped: Reason -> number of dropped candidates.
    """

    positions: list[int]
    scores: list[float]
    dropped: Dropped


def scored_answers(labelled: LabelledPrompt) -> ScoredAnswers:
    """The candidates with a score: that of a pointwise judge, or the win rate by a pairwise judge.

    Answers without a score, blank answers, and equal texts with different scores are dropped; the last would be preferred to themselves.
    Scores are compared as fp32, as losses see them.
    """
    texts = labelled.row["completions"]
    given = labelled.scores if any(score is not None for score in labelled.scores) else win_rates(labelled)
    of_text: dict[str, set[float]] = {}
    for text, score in zip(texts, given, strict=True):
        if score is not None:
            of_text.setdefault(text, set()).add(_as_seen(score))
    found, dropped = ScoredAnswers([], [], {}), Counter[str]()
    for position, (text, score) in enumerate(zip(texts, given, strict=True)):
        if is_blank(text):
            dropped[BLANK_ANSWER] += 1
        elif score is None:
            dropped[NO_SCORE] += 1
        elif len(of_text[text]) > 1:
            dropped[TWO_SCORES] += 1
        else:
            found.positions.append(position)
            found.scores.append(score)
    return ScoredAnswers(found.positions, found.scores, dict(dropped))


def win_rates(labelled: LabelledPrompt) -> list[float | None]:
    """For each candidate the mean probability, over the pairs that a judge decided, that its text is the better one; None if it is in none
    (Liu et al. 2024, "LiPO", arXiv 2402.01878, without the comparison with itself). Copies of a text have one win rate."""
    texts = labelled.row["completions"]
    found: dict[str, list[float]] = {text: [] for text in texts}
    for pair in labelled.judged:
        if pair.verdict.probability is not None:
            found[texts[pair.first]].append(pair.verdict.probability)
            found[texts[pair.second]].append(1 - pair.verdict.probability)
    return [sum(found[text]) / len(found[text]) if found[text] else None for text in texts]


def ranking_row(labelled: LabelledPrompt, scored: ScoredAnswers) -> dict[str, Any]:
    """The prompt's row of the table of rankings."""
    row = labelled.row
    ended = _ended(row)
    return {
        "id": row["id"],
        "source": row["source"],
        "prompt": row["prompt"],
        "completions": [row["completions"][position] for position in scored.positions],
        "scores": scored.scores,
        "ended": [ended[position] for position in scored.positions],
    }


def unpaired_rows(
    labelled: LabelledPrompt, scored: ScoredAnswers, config: AnswerLabelsConfig
) -> tuple[list[dict[str, Any]], Dropped]:
    """The prompt's rows of the table of answers with a label, and, by reason, how many of its candidates have no label.

    Of equal texts only the first is used.
    """
    row, ended = labelled.row, _ended(labelled.row)
    first: dict[str, int] = {}
    for place, position in enumerate(scored.positions):
        first.setdefault(row["completions"][position], place)
    dropped = Counter[str](scored.dropped)
    dropped[COPY] += len(scored.positions) - len(first)
    labels = good_or_bad([scored.scores[place] for place in first.values()], config)
    rows = []
    for (text, place), label in zip(first.items(), labels, strict=True):
        if isinstance(label, str):
            dropped[label] += 1
            continue
        flag = ended[scored.positions[place]]
        rows.append(
            {
                "id": row_id("unpaired", row["id"], text, flag, label),
                "source": row["source"],
                "prompt": row["prompt"],
                "completion": assistant(text),
                "label": label,
                "ended": flag,
            }
        )
    return rows, dict(+dropped)


def good_or_bad(scores: Sequence[float], config: AnswerLabelsConfig) -> list[bool | str]:
    """For the score of each answer of a prompt: True for a good one, False for a bad one, or why it is neither.

    By rank an answer is good if it is among the `best` in every order of equal scores, and bad likewise. If only some of these
    orders include it, it is a tie. An answer that is both good and bad, such as the only one, is neither.
    """
    if config.by == "score":
        return [
            True if score >= config.good_at_least else False if score < config.bad_below else BETWEEN
            for score in scores
        ]
    seen = [_as_seen(score) for score in scores]
    return [_by_rank(score, seen, config) for score in seen]


def _by_rank(score: float, scores: Sequence[float], config: AnswerLabelsConfig) -> bool | str:
    above, below = sum(other > score for other in scores), sum(other < score for other in scores)
    equal = len(scores) - above - below - 1
    good, bad = above + equal < config.best, below + equal < config.worst
    if good != bad:
        return good
    if good:
        return BOTH
    return TIED if above < config.best or below < config.worst else BETWEEN


def _as_seen(score: float) -> float:
    """A score in fp32, as losses read it: probabilities that differ by fp64 rounding are then equal."""
    return float(numpy.float32(score))


def _ended(row: dict[str, Any]) -> list[bool]:
    return row["ended"] or [True] * len(row["completions"])
