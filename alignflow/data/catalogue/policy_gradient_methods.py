"""The methods that take policy-gradient steps on answers which they sample and score."""

from __future__ import annotations

from collections.abc import Mapping

from alignflow.data.catalogue.method import Method
from alignflow.data.configs import online, policy_gradient

LOSS = "alignflow.models.losses.ppo:total_loss"

POLICY_GRADIENTS: Mapping[str, Method] = {
    "ppo": Method(
        LOSS,
        "Proximal Policy Optimization: RLHF with a value model.",
        options=online.PPOOptions,
        family="online",
        paper="1707.06347",
        formula="max(-A r, -A clip(r, 1 - cliprange, 1 + cliprange)) per token, r = pi / pi_old",
    ),
    "rloo": Method(
        LOSS,
        "REINFORCE leave-one-out.",
        options=policy_gradient.RLOOOptions,
        family="online",
        paper="2402.14740",
        formula="A_i = R_i - mean of the other R_j, R = score - kl_coef rho; max(-A r, -A clip(r)) per answer, r = exp(lp - lp_old)",
    ),
    "grpo": Method(
        LOSS,
        "Group relative policy optimization.",
        options=policy_gradient.GRPOOptions,
        family="online",
        paper="2402.03300",
        formula="A = (score - group mean) / (group std + 1e-4); mean over answers of token means of max(-A r, -A clip(r)) + kl_coef k3",
    ),
    "dr_grpo": Method(
        LOSS,
        "GRPO without its biases of length and difficulty.",
        options=policy_gradient.DrGRPOOptions,
        family="online",
        paper="2503.20783",
        formula="A = score - group mean; sum over tokens of max(-A r, -A clip(r)) / (answers * response_length)",
    ),
    "dapo": Method(
        LOSS,
        "GRPO with a higher upper clip, dynamic sampling and a penalty on overlong answers.",
        options=policy_gradient.DAPOOptions,
        family="online",
        paper="2503.14476",
        formula="GRPO's A; mean over tokens of max(-A r, -A clip(r, 1 - cliprange, 1 + cliprange_high))",
    ),
    "gspo": Method(
        LOSS,
        "Group sequence policy optimization.",
        options=policy_gradient.GSPOOptions,
        family="online",
        paper="2507.18071",
        formula="GRPO's A; mean over answers of max(-A s, -A clip(s)), s = exp(avg lp - avg lp_old)",
    ),
    "cispo": Method(
        LOSS,
        "Clipped importance sampling weights on the log-probability.",
        options=policy_gradient.CISPOOptions,
        family="online",
        paper="2506.13585",
        formula="GRPO's A; mean over tokens of -sg(clip(r)) A log pi",
    ),
    "sapo": Method(
        LOSS,
        "Soft adaptive policy optimization.",
        options=policy_gradient.SAPOOptions,
        family="online",
        paper="2511.20347",
        formula="GRPO's A; mean over answers of token means of -A s(tau (r - 1)) 4 / tau",
    ),
    "reinforce_pp": Method(
        LOSS,
        "REINFORCE++: PPO without a value model.",
        options=policy_gradient.ReinforcePPOptions,
        family="online",
        paper="2501.03262",
        formula="A_t = rewards from t on, normalised over all tokens; PPO's loss",
    ),
    "reinforce_pp_baseline": Method(
        LOSS,
        "REINFORCE++ with the group's mean as baseline.",
        options=policy_gradient.ReinforcePPBaselineOptions,
        family="online",
        paper="2501.03262",
        formula="A = score - group mean, normalised over all tokens; PPO's loss + kl_coef k2",
    ),
    "spo": Method(
        LOSS,
        "Self-play preference optimization: win rates within the group as scores.",
        options=policy_gradient.SPOOptions,
        family="online",
        paper="2401.04056",
        formula="score_i = mean over j of P(y_i beats y_j); RLOO's advantage and loss",
    ),
}
