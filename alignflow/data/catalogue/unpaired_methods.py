"""The methods that learn from single answers with a label or a score, and those that learn what not to say."""

from __future__ import annotations

from collections.abc import Mapping

from alignflow.data.catalogue.methods import Method
from alignflow.data.configs import unpaired

UNPAIRED_METHODS: Mapping[str, Method] = {
    "kto": Method(
        "alignflow.models.losses.binary_feedback:kto", "Kahneman-Tversky Optimization: good and bad answers, without pairs.",
        options=unpaired.KTOOptions, trainer="unpaired", takes=("policy", "reference?", "unpaired"),
        columns=("prompt", "completion", "label"), paper="2402.01306",
        formula="desirable_weight s(beta (z0 - rho)) if good, undesirable_weight s(beta (rho - z0)) if bad, "
                "z0 = max(0, mean rho of mismatched prompts and answers)",
    ),
    "bco": Method(
        "alignflow.models.losses.binary_feedback:bco", "Binary Classifier Optimization: the reward classifies good and bad answers.",
        options=unpaired.BCOOptions, trainer="unpaired", takes=("policy", "reference?", "unpaired"),
        columns=("prompt", "completion", "label"), paper="2404.04656",
        formula="-log s(r - delta) if good, -log s(delta - r) if bad, r = beta rho, delta = a running mean of r",
    ),
    "dro_v": Method(
        "alignflow.models.losses.binary_feedback:dro_v", "Direct Reward Optimisation: regression on scores, with a value network.",
        options=unpaired.DROVOptions, trainer="unpaired", takes=("policy", "reference?", "unpaired"),
        columns=("prompt", "completion", "score"), paper="2405.19107",
        formula="(r - V - tau rho)^2 / 2, r the score, V a value network's estimate for the prompt",
    ),
    "cringe": Method(
        "alignflow.models.losses.cringe:cringe", "CRINGE: NLL of good answers; tokens of bad ones against probable others.",
        options=unpaired.CRINGEOptions, trainer="unpaired", takes=("policy", "unpaired"),
        columns=("prompt", "completion", "label"), needs=("logps", "cringe_positive"), needs_reference=False, nll_option="alpha",
        paper="2211.05826",
        formula="NLL(good) + alpha sum_t -log(e^(s*) / (e^(s*) + e^s)) over the tokens of bad answers, s* drawn from the top_k other tokens",
    ),
    "pairwise_cringe": Method(
        "alignflow.models.losses.cringe:pairwise_cringe", "Pairwise CRINGE: CRINGE for pairs, with a gate that closes at a margin.",
        options=unpaired.PairwiseCRINGEOptions, takes=("policy", "preferences"), needs=("logps", "cringe_positive"),
        needs_reference=False, nll_option="alpha", paper="2312.16682",
        formula="g (NLL(w) + alpha Cringe(l)), g = s((b - M) / tau), M = lp(w) - lp(l)",
    ),
    "npo": Method(
        "alignflow.models.losses.negatives:npo", "Negative Preference Optimization: forgets bad answers, holds good ones.",
        options=unpaired.NPOOptions, trainer="unpaired", takes=("policy", "reference?", "unpaired"),
        columns=("prompt", "completion", "label"), nll_option="retain_weight", paper="2404.05868",
        formula="-(2 / beta) log s(-beta rho(bad)) + retain_weight NLL(good)",
    ),
    "d2o": Method(
        "alignflow.models.losses.negatives:d2o", "Distributional Dispreference Optimization: a bad answer against samples of the model.",
        options=unpaired.D2OOptions, trainer="negatives", takes=("policy", "reference?", "negatives"),
        columns=("prompt", "rejected", "samples"), paper="2403.03419",
        formula="-log s((beta / K) sum_i rho(y_i) - alpha rho(l)), y_i samples of the model",
    ),
}  # fmt: skip
"""Rows of METHODS once their families exist."""
