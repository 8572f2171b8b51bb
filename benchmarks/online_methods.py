"""What online_training.py runs on both sides, as data, and the reward that both sides ask: both environments read this file, so it imports neither side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

WORDS = frozenset(
    {
        "best",
        "better",
        "enjoy",
        "fun",
        "glad",
        "good",
        "great",
        "happy",
        "help",
        "kind",
        "love",
        "nice",
        "play",
        "smile",
        "sun",
    }
)


@dataclass(frozen=True)
class Compared:
    """One method on both sides.

    Attributes:
        generations: Answers to each prompt of an update.
        ours: Options of our method beside the shared ones.
        theirs: What TRL's config has beside the shared fields.
        reward: The metric that TRL logs the mean reward of an update under; ours is objective/scores.
    """

    generations: int
    ours: Mapping[str, Any]
    theirs: Mapping[str, Any] = field(default_factory=dict)
    reward: str = "reward"


METHODS: Mapping[str, Compared] = {
    "grpo": Compared(
        4,
        {"kl_coef": 0.04},
        {"beta": 0.04, "loss_type": "grpo", "scale_rewards": "group", "epsilon": 0.2},
    ),
    "rloo": Compared(4, {"kl_coef": 0.05}, {"beta": 0.05, "epsilon": 0.2}),
    "online_dpo": Compared(2, {"beta": 0.1}, {"beta": [0.1], "loss_type": "sigmoid"}, "objective/scores"),
}
"""Name -> what both sides run: one pass over the answers of an update, sampling at temperature 1 from all tokens."""


def share_of_pleasant_words(text: str) -> float:
    """How many of a text's words are in WORDS, over how many words it has; 0 for a text without words."""
    words = [word.strip(".,;:!?\"'()").lower() for word in text.split()]
    return sum(word in WORDS for word in words) / len(words) if words else 0.0


def score(prompt: Any, completion: str, row: Any) -> float:
    """The reward as our methods ask for it."""
    return share_of_pleasant_words(completion)


def scores(prompts: Any, completions: Any, **more: Any) -> list[float]:
    """The reward as TRL asks for it: all completions at once, as texts or as conversations of one turn."""
    texts = [each if isinstance(each, str) else each[0]["content"] for each in completions]
    return [share_of_pleasant_words(text) for text in texts]
