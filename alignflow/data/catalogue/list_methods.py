"""The alignment methods that learn from several answers to a prompt, ordered by their scores."""

from __future__ import annotations

from collections.abc import Mapping

from alignflow.data.catalogue.methods import Method
from alignflow.data.configs import lists

TAKES = ("policy", "reference?", "rankings")
COLUMNS = ("prompt", "completions", "scores")

LIST_METHODS: Mapping[str, Method] = {
    "lipo": Method(
        "alignflow.models.losses.listwise:lipo", "LiPO-lambda: pairs of a list, weighed by what their exchange does to the DCG.",
        options=lists.LiPOOptions, trainer="lists", takes=TAKES, columns=COLUMNS, paper="2402.01878",
        formula="-sum over psi_i > psi_j of |2^psi_i - 2^psi_j| |1 / log2(1 + rank_i) - 1 / log2(1 + rank_j)| log s(beta (rho_i - rho_j)), "
        "psi the label, rank by the current rho",
    ),
    "list_mle": Method(
        "alignflow.models.losses.listwise:list_mle", "ListMLE: the likelihood of the whole order.",
        options=lists.ListMLEOptions, trainer="lists", takes=TAKES, columns=COLUMNS, paper="2402.01878",
        formula="sum over k of log [sum over i >= k of exp(beta rho_i)] - beta rho_k, best answer first",
    ),
    "rrhf": Method(
        "alignflow.models.losses.listwise:rrhf", "RRHF: a hinge on mean log-probabilities, and SFT on the best answer.",
        options=lists.RRHFOptions, trainer="lists", takes=TAKES, columns=COLUMNS, paper="2304.05302", needs_reference=False,
        formula="rank_weight sum over r_i < r_j of max(0, avg lp_i - avg lp_j) - lp(best), r the score",
    ),
    "pro": Method(
        "alignflow.models.losses.listwise:pro", "Preference Ranking Optimization: each answer against those below it, and SFT on the best.",
        options=lists.PROOptions, trainer="lists", takes=TAKES, columns=COLUMNS, paper="2306.17492", needs_reference=False,
        formula="sum over k < K of log [exp(p_k / T_kk) + sum over i > k of exp(p_i / T_ki)] - p_k / T_kk - sft_coefficient (K - 1)^2 lp(best), "
        "p = avg lp, 1 / T_ki = r_k - r_i, 1 / T_kk the largest of them, best answer first",
    ),
}  # fmt: skip
