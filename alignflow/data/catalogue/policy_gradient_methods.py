"""The methods that take policy-gradient steps on answers which they sample and score."""

from __future__ import annotations

from collections.abc import Mapping

from alignflow.data.catalogue.method import Method
from alignflow.data.configs import online

POLICY_GRADIENTS: Mapping[str, Method] = {
    "ppo": Method(
        "alignflow.models.losses.ppo:total_loss",
        "Proximal Policy Optimization: RLHF with a value model.",
        options=online.PPOOptions,
        family="online",
        paper="1707.06347",
        formula="max(-A r, -A clip(r, 1 - cliprange, 1 + cliprange)) per token, r = pi / pi_old",
    ),
}
