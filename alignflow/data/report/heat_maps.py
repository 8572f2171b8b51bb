"""The credit of tokens as a heat map: a colour behind each token's text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MOST_OPAQUE = 0.8
FULL_FROM = 0.95
"""Share of the tokens with less credit than those of full colour: the end of an answer often has many times that of the others."""
RAISED, LOWERED = "46, 160, 67", "248, 81, 73"


def heat_maps(answers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the page shows of the answers of the evaluator `token_credit`.

    Args:
        answers: With `prompt`, `model`, `tokens` and `credit`, one text and one figure (nats) per token.

    Returns:
        For each answer `prompt`, `model`, `total` (nats) and `cells`: text, credit and colour of each token; answers to one prompt
        follow one another. Green is a token that the training made more likely, red one that it made less likely; the more credit, the
        more opaque, up to that which 5% of the tokens have.
    """
    sizes = sorted(abs(value) for answer in answers for value in answer["credit"])
    full = sizes[min(int(FULL_FROM * len(sizes)), len(sizes) - 1)] if sizes else 0.0
    prompts = [answer["prompt"] for answer in answers]
    ordered = sorted(answers, key=lambda answer: prompts.index(answer["prompt"]))
    return [
        {
            "prompt": answer["prompt"],
            "model": answer["model"],
            "total": sum(answer["credit"]),
            "cells": [
                (text, value, colour(value / full if full else 0.0))
                for text, value in zip(answer["tokens"], answer["credit"], strict=True)
            ],
        }
        for answer in ordered
    ]


def colour(share: float) -> str:
    """The CSS colour of a credit, given as a share of the one that has full colour; larger ones have full colour too."""
    return f"rgba({RAISED if share >= 0 else LOWERED}, {MOST_OPAQUE * min(1.0, abs(share)):.3f})"
