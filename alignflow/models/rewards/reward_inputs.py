"""The default models of a source of rewards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RewardInputs:
    """The models of a training that sources use by default.

    Attributes:
        reward_model: The recipe's reward model, or None.
        policy: The model that the training starts from, unchanged; None if there is none.
    """

    reward_model: Path | None = None
    policy: Path | None = None
