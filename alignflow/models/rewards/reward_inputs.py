"""What a source of rewards may fall back on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RewardInputs:
    """The models of a training that sources may fall back on.

    Attributes:
        reward_model: The recipe's reward model, or None.
        policy: The model that the training starts from, as it was before; None if there is none.
    """

    reward_model: Path | None = None
    policy: Path | None = None
