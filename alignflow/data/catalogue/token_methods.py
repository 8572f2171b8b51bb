"""The alignment methods that look at single tokens, at whole distributions over the vocabulary, or at a whole optimizer step."""

from __future__ import annotations

from collections.abc import Mapping

from alignflow.data.catalogue.methods import Method
from alignflow.data.configs import token_level

TOKEN_METHODS: Mapping[str, Method] = {
    "tdpo1": Method(
        "alignflow.models.losses.token_level:tdpo1", "Token-level DPO, first form: the answers' KLs to the reference enter the margin.",
        options=token_level.TDPO1Options, paper="2404.11999", needs=("logps", "forward_kl", "reference_logps"),
        formula="-log s(beta (rho(w) - rho(l)) - beta (SeqKL(l) - SeqKL(w))), SeqKL = sum_t KL(ref || pi)",
    ),
    "tdpo2": Method(
        "alignflow.models.losses.token_level:tdpo2", "Token-level DPO, second form: the chosen answer's KL takes no gradient.",
        options=token_level.TDPO2Options, paper="2404.11999", needs=("logps", "forward_kl", "reference_logps"),
        formula="-log s(beta (rho(w) - rho(l)) - alpha beta (SeqKL(l) - sg(SeqKL(w)))), SeqKL = sum_t KL(ref || pi)",
    ),
    "ld_dpo": Method(
        "alignflow.models.losses.token_level:ld_dpo", "Length-desensitised DPO: tokens beyond the shorter answer's length weigh less.",
        options=token_level.LDDPOOptions, paper="2409.06411", reference_tokens=True,
        formula="-log s(beta (rho(w) - rho(l))), tokens beyond min(|w|, |l|) weighed by ld_alpha",
    ),
    "beta_dpo": Method(
        "alignflow.models.losses.beta_dpo:beta_dpo", "DPO with a beta for each step, and without pairs far from the usual gap.",
        options=token_level.BetaDPOOptions, paper="2407.08639",
        formula="-v log s(b (rho(w) - rho(l))), b = beta (1 + alpha (avg gap - M0)), v = 0 for pairs left out",
    ),
    "gkd": Method(
        "alignflow.models.losses.token_level:gkd", "Generalized Knowledge Distillation from a teacher, on given answers.",
        options=token_level.GKDOptions, paper="2306.13649", trainer="demonstrations", takes=("policy", "teacher", "demonstrations"),
        columns=("prompt", "completion"), needs=("logps", "generalized_jsd"),
        formula="avg over tokens of beta KL(teacher || m) + (1 - beta) KL(pi || m), m = beta teacher + (1 - beta) pi",
    ),
}  # fmt: skip
"""Not yet part of METHODS: their trainers are to give them the figures that they take."""
