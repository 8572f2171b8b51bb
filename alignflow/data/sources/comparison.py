"""Comparison files: one prompt with several answers that have scores or ranks; those of `output` stand from best to worst without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from alignflow.data.records import assistant
from alignflow.data.sources.alpaca import request
from alignflow.data.sources.base import Messages, Row, RowError, column, number
from alignflow.data.sources.conversations import answer_of, answered, demonstration, preference, prompt_of, prompt_turns
from alignflow.data.sources.meanings import STRUCTURED_REASONS, TURN_REASONS, parse_with, refuse_meanings
from alignflow.data.sources.prompts import prompt_row

ANSWERS = ("responses", "answers", "completions", "output", "outputs")
TEXTS = ("text", "response", "answer", "content", "completion", "output")
SCORES = ("score", "rating", "overall_score")
LISTS = ("scores", "ratings")
RANKS = ("ranks", "rank")
IN_ORDER = ("output", "outputs")
"""Columns whose answers stand from best to worst where nothing else says which is better."""


def parse(row: Row, kind: str) -> list[Row]:
    """Rows of the table `kind`; raises RowError."""
    return parse_with(PARSERS, row, kind)


def several(row: Row) -> tuple[Messages, list[str], list[Any]]:
    """Prompt, the texts of at least two answers, and the answers as they stand in the row."""
    prompt = request(row) if "instruction" in row else prompt_turns(row, column(row, "prompt", "question"))
    answers = column(row, *ANSWERS)
    if not isinstance(answers, Sequence) or isinstance(answers, str) or len(answers) < 2:
        raise RowError("not_several_answers")
    return prompt_of(prompt), [_answer(row, prompt, answer) for answer in answers], list(answers)


def _answer(row: Row, prompt: Messages, answer: Any) -> str:
    if isinstance(answer, Mapping):
        refuse_meanings(answer, {**TURN_REASONS, **STRUCTURED_REASONS})
        answer = _first(answer, TEXTS)
    whole = answered(row, prompt, answer)
    if whole[:-1] != prompt:
        raise RowError("different_prompts")
    return answer_of(whole)


def scored(row: Row) -> tuple[Messages, list[str], list[float]]:
    """Prompt, answers, and scores where higher is better; an order from best to worst counts down.

    Raises:
        RowError: `no_scores`, `not_finite`; `scores_disagree`: ranks beside the scores put two answers the other way round, or one
            answer stands there twice with two scores.
    """
    prompt, texts, answers = several(row)
    scores = _scores(row, answers)
    known: dict[str, float] = {}
    if any(known.setdefault(text.strip(), score) != score for text, score in zip(texts, scores, strict=True)):
        raise RowError("scores_disagree")
    return prompt, texts, scores


def _scores(row: Row, answers: list[Any]) -> list[float]:
    listed = _first(row, LISTS)
    if listed is None and (ranks := _first(row, RANKS)) is not None:
        listed = [_negated(rank) for rank in ranks] if isinstance(ranks, list) else ranks
    if listed is None and isinstance(answers[0], Mapping):
        listed = [_score(answer) if isinstance(answer, Mapping) else None for answer in answers]
    if listed is None:
        if (
            next(name for name in ANSWERS if row.get(name) is not None) not in IN_ORDER
        ):  # the column that `several` took them from
            raise RowError("no_scores")
        return [float(len(answers) - index) for index in range(len(answers))]
    if not isinstance(listed, Sequence) or isinstance(listed, str) or len(listed) != len(answers):
        raise RowError("no_scores")
    found = [_finite(score) for score in listed]
    if any(
        (score - other) * (rank - another) < 0
        for (score, rank), (other, another) in combinations(zip(found, _ranks(row, answers), strict=False), 2)
    ):
        raise RowError("scores_disagree")
    return found


def _ranks(row: Row, answers: list[Any]) -> list[float]:
    """The ranks of the answers, negated, where each has one; they may stand beside scores, which then must not say the contrary."""
    ranks = _first(row, RANKS)
    if ranks is None and isinstance(answers[0], Mapping):
        ranks = [answer.get("rank") if isinstance(answer, Mapping) else None for answer in answers]
    if not isinstance(ranks, list) or len(ranks) != len(answers):
        return []
    try:
        found = [_negated(rank) for rank in ranks]
    except RowError:
        return []
    return [rank for rank in found if rank is not None] if None not in found else []


def _finite(score: Any) -> float:
    """A score as a number. NaN: that answer was not scored, and so nothing says which is the best."""
    if score is None or score == "" or isinstance(score, bool):
        raise RowError("no_scores")
    try:
        found = number(score)
    except RowError as error:
        raise RowError("no_scores" if error.reason == "not_a_number" else error.reason) from None
    if found is None:
        raise RowError("not_finite")
    return found


def _score(answer: Mapping[str, Any]) -> Any:
    score = _first(answer, SCORES)
    return score if score is not None else _negated(answer.get("rank"))


def _negated(rank: Any) -> float | None:
    found = number(rank)
    return None if found is None else 0.0 - found  # -0.0 would be written as such


def _first(answer: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((answer[name] for name in names if answer.get(name) is not None), None)


def best_and_worst(prompt: Messages, texts: list[str], scores: list[float]) -> Row:
    """The widest pair of a ranking; raises RowError where all scores are equal."""
    best, worst = max(range(len(scores)), key=lambda i: scores[i]), min(range(len(scores)), key=lambda i: scores[i])
    if scores[best] == scores[worst]:
        raise RowError("tie")
    figures = {"margin": scores[best] - scores[worst], "score_chosen": scores[best], "score_rejected": scores[worst]}
    return preference([*prompt, *assistant(texts[best])], [*prompt, *assistant(texts[worst])], **figures)


def _best(row: Row) -> list[Row]:
    prompt, texts, scores = scored(row)
    return [demonstration([*prompt, *assistant(texts[scores.index(max(scores))])])]


def _ranking(row: Row) -> list[Row]:
    return [dict(zip(("prompt", "completions", "scores"), scored(row), strict=True))]


def _completions(row: Row) -> list[Row]:
    prompt, texts, _ = several(row)
    return [{"prompt": prompt, "completions": texts, "ended": [True] * len(texts)}]


PARSERS = {
    "rankings": _ranking,
    "preferences": lambda row: [best_and_worst(*scored(row))],
    "completions": _completions,
    "prompts": lambda row: [prompt_row(several(row)[0], row)],
    "demonstrations": _best,
}
