"""The methods that run in rounds of sampling, judging and training."""

from __future__ import annotations

from collections.abc import Mapping

from alignflow.data.catalogue.method import Iterated, Method
from alignflow.data.configs import iterated
from alignflow.data.configs.options import NoOptions

ITERATED: Mapping[str, Method] = {
    "iterative_dpo": Method(
        "alignflow.models.losses.dpo:dpo",
        "Iterative DPO: in rounds, the best of the policy's own answers against the worst.",
        options=iterated.IteratedDPOOptions,
        family="best_and_worst",
        paper="2312.11456",
        rounds=Iterated(sample={"n": 8}),
        formula="-log s(beta (rho(w) - rho(l))), w and l the best and the worst of n samples of the round's policy",
    ),
    "sppo": Method(
        "alignflow.models.losses.self_play:sppo",
        "Self-Play Preference Optimization: log-ratios drawn to win rates against the policy itself.",
        options=iterated.SPPOOptions,
        family="best_and_worst",
        paper="2405.00675",
        rounds=Iterated(reference="previous", sample={"n": 5}, label={"all_pairs_up_to": 64}),
        formula="[(rho(w) - eta (P(w) - 1/2))^2 + (rho(l) - eta (P(l) - 1/2))^2] / 2, P the win rate among the round's samples, the reference "
        "the round's first policy",
    ),
    "dno": Method(
        "alignflow.models.losses.self_play:dno",
        "Direct Nash Optimization: the difference of win rates as a soft target.",
        options=iterated.DNOOptions,
        family="best_and_worst",
        paper="2404.03715",
        rounds=Iterated(reference="previous", sample={"n": 5}, label={"all_pairs_up_to": 64}),
        formula="-p log s(d) - (1 - p) log s(-d), d = eta (rho(w) - rho(l)), p = s(P(w) - P(l)), P the win rate among the round's samples",
    ),
    "dno_prct": Method(
        "alignflow.models.losses.dpo:dpo",
        "Practical DNO: DPO on answers far apart, a reference answer of the data among them.",
        options=iterated.IteratedDPOOptions,
        family="best_and_worst",
        paper="2404.03715",
        rounds=Iterated(
            reference="previous",
            sample={"n": 5},
            label={"all_pairs_up_to": 64, "min_win_rate_gap": 0.2, "include_reference": True},
        ),
        formula="-log s(beta (rho(w) - rho(l))), w and l the best and the worst of the samples and the reference answer, where P(w) - P(l) is large",
    ),
    "self_rewarding": Method(
        "alignflow.models.losses.dpo:dpo",
        "Self-Rewarding: the policy of each round judges its own answers, and DPO learns from that.",
        options=iterated.IteratedDPOOptions,
        family="best_and_worst",
        paper="2401.10020",
        rounds=Iterated(
            reference="previous",
            sample={"n": 4, "temperature": 0.7, "top_p": 0.9},
            label={"judge": {"name": "additive"}},
            judges_itself=True,
        ),
        formula="-log s(beta (rho(w) - rho(l))), w and l the best and the worst of 4 samples by the policy's own mean score from 0 to 5",
    ),
    "raft": Method(
        "alignflow.models.losses.self_play:raft",
        "RAFT: in rounds, SFT on the best of the policy's own answers.",
        options=NoOptions,
        family="selected",
        paper="2304.06767",
        needs_reference=False,
        rounds=Iterated(reference="previous", sample={"n": 8}),
        formula="NLL of the answers that the step select kept, a mean over their tokens",
    ),
}
