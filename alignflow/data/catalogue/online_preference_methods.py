"""The methods that sample answers, have them compared, and step on the comparisons at once. And on-policy distillation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from alignflow.data.catalogue.method import Method
from alignflow.data.configs import online_preference as configs


@dataclass(frozen=True)
class ComparingMethod(Method):
    """A method of the family `online_preference`: its loss is a function of compared answers.

    Attributes:
        opponent: Who writes what the policy's answers are compared with: policy (its own further answers), reference, mixture, ema;
            names of `models/trainers/opponents.py`.
        ordered: Whether it learns from a better and a worse answer, so that pairs without a preference teach nothing; else from
            the policy's answers alone, each with P(it beats the other).
    """

    family: str = "online_preference"
    opponent: Literal["policy", "reference", "mixture", "ema"] = "policy"
    ordered: bool = True


ONLINE_PREFERENCE: Mapping[str, Method] = {
    "online_dpo": ComparingMethod(
        "alignflow.models.losses.online_preference:online_dpo",
        "Online DPO (OAIF): pairs of the policy's own answers, compared at once.",
        options=configs.OnlineDPOOptions,
        paper="2402.04792",
        formula="-log s(beta (rho(w) - rho(l))), w and l sampled from pi; any other pair loss by name",
    ),
    "xpo": ComparingMethod(
        "alignflow.models.losses.online_preference:xpo",
        "Exploratory Preference Optimization: online DPO against the reference's answers, with a bonus for exploring.",
        options=configs.XPOOptions,
        paper="2405.21046",
        opponent="reference",
        formula="-log s(beta (rho(w) - rho(l))) + alpha lp(y'), y sampled from pi, y' from the reference",
    ),
    "nash_md": ComparingMethod(
        "alignflow.models.losses.nash:nash_policy_gradient",
        "Nash-MD: a policy gradient against a mixture of policy and reference.",
        options=configs.NashMDOptions,
        paper="2312.00886",
        opponent="mixture",
        ordered=False,
        formula="-lp(y) (P(y beats y') - 1/2 - beta rho(y)), weights fixed, y' from pi^(1 - c) ref^c per token, c = mixture_coef",
    ),
    "nash_ema": ComparingMethod(
        "alignflow.models.losses.nash:nash_policy_gradient",
        "Nash-EMA: a policy gradient against the moving average of its own weights.",
        options=configs.NashEMAOptions,
        paper="2312.00886",
        opponent="ema",
        ordered=False,
        formula="-lp(y) (P(y beats y') - 1/2 - beta rho(y)), weights fixed, y' from the policy of averaged weights",
    ),
    "on_policy_distillation": Method(
        "alignflow.models.losses.token_level:gkd",
        "On-policy distillation: the divergence from a teacher on the student's own answers (GKD with lmbda 1).",
        options=configs.DistillationOptions,
        family="online_distillation",
        paper="2306.13649",
        needs=("logps", "generalized_jsd"),
        needs_reference=False,
        teacher="teacher",
        measured_with=(("jsd_beta", "beta"), ("temperature", "temperature")),
        formula="avg over tokens of beta KL(teacher || m) + (1 - beta) KL(pi || m), m = beta teacher + (1 - beta) pi, y sampled from pi",
    ),
}
