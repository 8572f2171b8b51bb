"""Comparison files: one prompt with several answers that have scores, or stand in order from best to worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alignflow.data.records import assistant
from alignflow.data.sources.alpaca import request
from alignflow.data.sources.base import Messages, Row, RowError, as_prompt, column, number, parse_with, preference, prompt_row, text

ANSWERS = ("responses", "answers", "completions", "output", "outputs")
TEXTS = ("text", "response", "answer", "content", "completion", "output")
SCORES = ("score", "rating", "overall_score")
LISTS = ("scores", "ratings")


def parse(row: Row, kind: str) -> list[Row]:
    """Rows of the table `kind`; raises RowError."""
    return parse_with(PARSERS, row, kind)


def scored(row: Row) -> tuple[Messages, list[str], list[float]]:
    """Prompt, answers, and scores where higher is better; an order from best to worst counts down."""
    prompt = request(row) if "instruction" in row else as_prompt(column(row, "prompt", "question"))
    answers = column(row, *ANSWERS)
    if not isinstance(answers, Sequence) or isinstance(answers, str):
        raise RowError("not_several_answers")
    texts = [text(_first(answer, TEXTS) if isinstance(answer, Mapping) else answer) for answer in answers]
    if len(texts) < 2:
        raise RowError("not_several_answers")
    return prompt, texts, _scores(row, list(answers))


def _scores(row: Row, answers: list[Any]) -> list[float]:
    listed = next((row[name] for name in LISTS if isinstance(row.get(name), Sequence)), None)
    if listed is None and isinstance(answers[0], Mapping):
        listed = [_first(answer, SCORES) if _first(answer, SCORES) is not None else _negated(answer.get("rank")) for answer in answers]
    if listed is None:
        return [float(len(answers) - index) for index in range(len(answers))]
    if len(listed) != len(answers) or not all(isinstance(score, int | float) and not isinstance(score, bool) for score in listed):
        raise RowError("no_scores")
    found = [number(score) for score in listed]
    scores = [score for score in found if score is not None]
    if len(scores) < len(found):  # NaN: that answer was not scored, and so nothing says which is the best
        raise RowError("not_finite")
    return scores


def _negated(rank: Any) -> float | None:
    found = number(rank) if isinstance(rank, int | float) else None
    return None if found is None else -found


def _first(answer: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((answer[name] for name in names if answer.get(name) is not None), None)


def best_and_worst(prompt: Messages, texts: list[str], scores: list[float]) -> Row:
    """The widest pair of a ranking; raises RowError where all scores are equal."""
    best, worst = max(range(len(scores)), key=lambda i: scores[i]), min(range(len(scores)), key=lambda i: scores[i])
    if scores[best] == scores[worst]:
        raise RowError("tie")
    figures = {"margin": scores[best] - scores[worst], "score_chosen": scores[best], "score_rejected": scores[worst]}
    return preference(prompt, texts[best], texts[worst], **figures)


def _best(row: Row) -> list[Row]:
    prompt, texts, scores = scored(row)
    return [{"messages": [*prompt, *assistant(texts[scores.index(max(scores))])]}]


def _ranking(row: Row) -> list[Row]:
    prompt, texts, scores = scored(row)
    return [{"prompt": prompt, "completions": texts, "scores": scores}]


def _completions(row: Row) -> list[Row]:
    prompt, texts, _ = scored(row)
    return [{"prompt": prompt, "completions": texts, "ended": [True] * len(texts)}]


PARSERS = {
    "rankings": _ranking,
    "preferences": lambda row: [best_and_worst(*scored(row))],
    "completions": _completions,
    "prompts": lambda row: [prompt_row(scored(row)[0], row)],
    "demonstrations": _best,
}
