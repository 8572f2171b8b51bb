"""What methods that sample are put together from: ways from token rewards to advantages, and losses of the policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from alignflow.data.catalogue.base import Part


@dataclass(frozen=True)
class Advantage(Part):
    """One way from token rewards to advantages.

    Attributes:
        needs_values: From the values of a value model.
        groups: It compares the answers to one prompt, of which there must be two.
        scores: Sources whose scores it makes sense of; empty: all of them.
    """

    needs_values: bool = False
    groups: bool = False
    scores: tuple[str, ...] = ()


ADVANTAGES: Mapping[str, Advantage] = {
    "gae": Advantage(
        "alignflow.models.advantages:gae_advantages",
        "Generalized advantage estimation from a value model.",
        needs_values=True,
    ),
    "rloo": Advantage(
        "alignflow.models.group_advantages:rloo_advantages",
        "Score less the mean score of the other answers to the prompt (leave one out).",
        groups=True,
    ),
    "grpo": Advantage(
        "alignflow.models.group_advantages:grpo_advantages",
        "Score less the group's mean, over the group's standard deviation.",
        groups=True,
    ),
    "dr_grpo": Advantage(
        "alignflow.models.group_advantages:dr_grpo_advantages", "Score less the group's mean.", groups=True
    ),
    "reinforce_pp": Advantage(
        "alignflow.models.advantages:reinforce_pp_advantages",
        "Rewards to go, normalised over all tokens of the update.",
    ),
    "reinforce_pp_baseline": Advantage(
        "alignflow.models.group_advantages:reinforce_pp_baseline_advantages",
        "Score less the group's mean, normalised over all tokens of the update.",
        groups=True,
    ),
    "spo": Advantage(
        "alignflow.models.group_advantages:rloo_advantages",
        "Win rate against the other answers to the prompt, less the mean win rate of those.",
        groups=True,
        scores=("win_rate", "function"),
    ),
}


@dataclass(frozen=True)
class PolicyLossPart(Part):
    """One loss of the policy.

    Attributes:
        reads: Of LOSS_OPTIONS those that it takes.
        whole_answers: It is a loss of whole answers, whose mean over answers alone makes sense.
    """

    reads: tuple[str, ...] = ()
    whole_answers: bool = False


CLIPS = ("cliprange", "cliprange_high")
GATES = ("sapo_temperature_pos", "sapo_temperature_neg")
LOSS_OPTIONS = (*CLIPS, "dual_clip", *GATES)
"""Options that some losses read, and others do not."""

POLICY_LOSSES: Mapping[str, PolicyLossPart] = {
    "clip": PolicyLossPart(
        "alignflow.models.losses.ppo:clip",
        "The clipped probability ratio of PPO, per token.",
        reads=(*CLIPS, "dual_clip"),
    ),
    "sequence_clip": PolicyLossPart(
        "alignflow.models.losses.ratios:sequence_clip",
        "The clipped ratio of whole answers, from summed log-probabilities (RLOO).",
        reads=(*CLIPS, "dual_clip"),
        whole_answers=True,
    ),
    "gspo": PolicyLossPart(
        "alignflow.models.losses.ratios:gspo",
        "The clipped ratio of whole answers, from mean log-probabilities.",
        reads=(*CLIPS, "dual_clip"),
    ),
    "gspo_token": PolicyLossPart(
        "alignflow.models.losses.ratios:gspo_token",
        "GSPO's ratio in value, with a gradient of its own for each token.",
        reads=(*CLIPS, "dual_clip"),
    ),
    "cispo": PolicyLossPart(
        "alignflow.models.losses.ratios:cispo",
        "Log-probability weighed by the clipped ratio, which has no gradient.",
        reads=CLIPS,
    ),
    "sapo": PolicyLossPart(
        "alignflow.models.losses.ratios:sapo", "A sigmoid gate on the ratio, in place of the clip.", reads=GATES
    ),
}
