"""The losses of a reward model: which tables feed each, which fields it does not read, what it is measured by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class RewardLoss:
    """A loss of the stage `reward`.

    Attributes:
        kinds: Tables that can feed it, the most direct first; each is the name of an input of the stage.
        what: What it learns from, for messages.
        metrics: Held-out metrics that can say which step is the best.
        unread: Fields of `reward` that it has no use for.
        answers: Answers of a row, for what a step needs of memory.
    """

    kinds: tuple[str, ...]
    what: str
    metrics: tuple[str, ...] = ("eval_loss", "eval_accuracy")
    unread: tuple[str, ...] = ()
    answers: int = 1


OF_PAIRS = ("use_margin", "use_soft_labels")
REGULARIZERS = ("l2_coefficient", "center_rewards_coefficient")
REWARD_LOSSES: Mapping[str, RewardLoss] = {
    "bradley_terry": RewardLoss(("preferences",), "preference pairs", answers=2),
    "ranking": RewardLoss(("rankings", "preferences"), "lists of scored answers", unread=OF_PAIRS, answers=4),
    "pointwise": RewardLoss(
        ("rankings",), "scored answers", ("eval_loss", "eval_pearson"), unread=(*REGULARIZERS, *OF_PAIRS)
    ),
    "binary": RewardLoss(("unpaired", "preferences"), "labelled answers", unread=(*REGULARIZERS, *OF_PAIRS)),
}
"""Values of `reward.loss`. A regression gets no pairs: they say which answer is better, and not what score it should have."""
