"""What runs the methods of a family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from alignflow.data.catalogue.base import Part


@dataclass(frozen=True)
class Trainer(Part):
    """What runs a family of methods.

    Attributes:
        generates: Whether it runs a generator, whose name then enters the key.
        unread: Fields of `align` that it has no use for: a recipe that sets one is refused.
    """

    generates: bool = False
    unread: tuple[str, ...] = ()


TRAINERS: Mapping[str, Trainer] = {
    "pairs": Trainer("alignflow.models.trainers.pairwise:train_align", "Steps on preference pairs.", version="2"),
    "online": Trainer(
        "alignflow.models.trainers.online:train_online", "Samples answers, scores them, and steps on them.", generates=True,
        unread=("sft_coefficient", "eval_steps", "load_best_model_at_end", "early_stopping_patience", "metric_for_best_model"),
    ),
}  # fmt: skip
