"""Lengths, repetition and stop rate of both models' answers: the first signs of reward hacking."""

from __future__ import annotations

from statistics import fmean, median
from typing import Any

from alignflow.models.evaluators.base import MODELS, Answer, Evaluation, EvaluationInputs


def evaluate(inputs: EvaluationInputs) -> Evaluation:
    """Means for both models."""
    details = {model: describe(inputs.answers[model]) for model in MODELS}
    names = ("tokens_mean", "stop_rate", "repetition", "distinct_2")
    return Evaluation({f"{name}/{model}": details[model][name] for name in names for model in MODELS}, details)


def describe(answers: list[Answer]) -> dict[str, Any]:
    """Figures of some answers.

    Returns:
        tokens_mean, tokens_median, words_mean; stop_rate: share that ended by itself; repetition: mean share of an
        answer's word 3-grams that it said before; distinct_1 and distinct_2: share of different words and word pairs
        over all answers (Li et al. 2016, arXiv 1510.03055); empty: share without a word.
    """
    words = [answer.text.split() for answer in answers]
    return {
        "tokens_mean": fmean(answer.tokens for answer in answers),
        "tokens_median": float(median(answer.tokens for answer in answers)),
        "words_mean": fmean(map(len, words)),
        "stop_rate": fmean(float(answer.ended) for answer in answers),
        "repetition": fmean(map(repetition, words)),
        "distinct_1": distinct(words, 1),
        "distinct_2": distinct(words, 2),
        "empty": fmean(float(not found) for found in words),
    }


def ngrams(words: list[str], size: int) -> list[tuple[str, ...]]:
    """All runs of `size` words."""
    return [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]


def repetition(words: list[str], size: int = 3) -> float:
    """Share of an answer's n-grams that occurred in it before; 0 for an answer that is too short to repeat."""
    found = ngrams(words, size)
    return 1 - len(set(found)) / len(found) if found else 0.0


def distinct(texts: list[list[str]], size: int) -> float | None:
    """Share of different n-grams over all texts; None if there are none."""
    found = [gram for words in texts for gram in ngrams(words, size)]
    return len(set(found)) / len(found) if found else None
