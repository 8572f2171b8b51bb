"""What methods that sample are put together from: ways from token rewards to advantages, and losses of the policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from alignflow.data.catalogue.base import Part


@dataclass(frozen=True)
class Advantage(Part):
    """One way from token rewards to advantages; `needs_values`: from the values of a value model."""

    needs_values: bool = False


ADVANTAGES: Mapping[str, Advantage] = {
    "gae": Advantage(
        "alignflow.models.advantages:gae_advantages",
        "Generalized advantage estimation from a value model.",
        needs_values=True,
    ),
}

POLICY_LOSSES: Mapping[str, Part] = {
    "clip": Part("alignflow.models.losses.ppo:clip", "The clipped probability ratio of PPO, per token."),
}
