"""The alignment methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from alignflow.data.catalogue import families
from alignflow.data.catalogue.base import PartWithOptions
from alignflow.data.configs import lists, online, pairwise, token_level, unpaired


@dataclass(frozen=True)
class Method(PartWithOptions):
    """One alignment method: its loss is a pure function over named batches.

    Attributes:
        family: The row of FAMILIES that it belongs to: its data, and what runs it.
        needs: Figures per token that its loss takes: names of `token_statistics.STATISTICS`.
        needs_reference: Whether it compares with a frozen reference model.
        reference_tokens: Whether it needs the reference's log-probability of each token (`reference_logps`), and not the sums alone.
        live_reference: Whether it compares whole distributions, so that the reference runs beside the policy in every step.
        teacher: The option that names a second checkpoint, which runs beside the policy in every step; empty: there is none.
        value_network: Whether a network of its own estimates the value of each token's state (`statistics["values"]`), and learns beside
            the policy.
        measured_with: Arguments of `Policy.token_statistics` that its options give, as (argument, option).
        whole_step: Address of what makes the figures of `OfflineBatch.step` from the answers of a whole optimizer step; see
            `models/losses/step_scalars.py`.
        step_reads: What of the answers `whole_step` looks at: labels alone, their log-probabilities, or those of answers to other
            prompts.
        nll_option: The option that weighs the chosen answers' NLL against the rest, where the loss has that NLL itself; empty: it
            has none, and `align.sft_coefficient` adds it.
        formula: What its loss is, in the symbols of the papers: rho is log pi - log pi_ref summed over an answer's tokens, lp the
            policy's log-probability likewise, avg their mean; w and l are the chosen and the rejected answer, s the sigmoid.
        paper: arXiv id; empty where there is no paper.
    """

    family: str = "pairs"
    needs: tuple[str, ...] = ("logps",)
    needs_reference: bool = True
    reference_tokens: bool = False
    live_reference: bool = False
    teacher: str = ""
    value_network: bool = False
    measured_with: tuple[tuple[str, str], ...] = ()
    whole_step: str = ""
    step_reads: Literal["labels", "logps", "mismatched"] = "logps"
    nll_option: str = ""
    formula: str = ""
    paper: str = ""

    @property
    def mismatched(self) -> bool:
        """Whether it needs what the reference says of answers to other prompts."""
        return bool(self.whole_step) and self.step_reads == "mismatched"

    def learns_from(self) -> families.Family:
        """The family's row."""
        return families.FAMILIES[self.family]


METHODS: Mapping[str, Method] = {
    "dpo": Method(
        "alignflow.models.losses.dpo:dpo",
        "Direct Preference Optimization.",
        options=pairwise.DPOOptions,
        paper="2305.18290",
        formula="-log s(beta (rho(w) - rho(l)))",
    ),
    "cdpo": Method(
        "alignflow.models.losses.dpo:dpo",
        "Conservative DPO: DPO with smoothed labels.",
        options=pairwise.CDPOOptions,
        formula="-(1 - e) log s(z) - e log s(-z), z = beta (rho(w) - rho(l)), e = label_smoothing",
    ),
    "robust": Method(
        "alignflow.models.losses.dpo:robust",
        "Robust DPO (rDPO): unbiased where labels are flipped at a known rate.",
        options=pairwise.RobustOptions,
        paper="2403.00409",
        formula="[-(1 - e) log s(z) + e log s(-z)] / (1 - 2e), z = beta (rho(w) - rho(l)), e = label_smoothing",
    ),
    "ipo": Method(
        "alignflow.models.losses.margins:ipo",
        "Identity Preference Optimization: the margin is drawn to a finite value.",
        options=pairwise.IPOOptions,
        paper="2310.12036",
        formula="(rho(w) - rho(l) - 1 / (2 beta))^2, rho as means over tokens unless length_normalise is false",
    ),
    "gpo": Method(
        "alignflow.models.losses.margins:gpo",
        "Generalized Preference Optimization: a function of the margin of your choice.",
        options=pairwise.GPOOptions,
        paper="2402.05749",
        formula="f(z), z = beta (rho(w) - rho(l)), f as form says",
    ),
    "rso": Method(
        "alignflow.models.losses.margins:rso_hinge",
        "The hinge loss of RSO, TRL's hinge.",
        options=pairwise.RSOOptions,
        paper="2309.06657",
        formula="max(0, 1 - beta (rho(w) - rho(l)))",
    ),
    "exo": Method(
        "alignflow.models.losses.margins:exo",
        "Efficient Exact Optimization for pairs: the reverse KL to a smoothed target.",
        options=pairwise.EXOOptions,
        paper="2402.00856",
        formula="KL(softmax(beta rho(w), beta rho(l)) || (1 - e, e)), e = label_smoothing",
    ),
    "f_dpo": Method(
        "alignflow.models.losses.margins:f_dpo",
        "f-DPO: another divergence to the reference.",
        options=pairwise.FDPOOptions,
        paper="2309.16240",
        formula="-log s(beta (f'(u(w)) - f'(u(l)))), u = exp(rho)",
    ),
    "apo_zero": Method(
        "alignflow.models.losses.anchored:apo_zero",
        "Anchored Preference Optimization: raise chosen, lower rejected.",
        options=pairwise.BetaOptions,
        paper="2408.06266",
        formula="-s(beta rho(w)) + s(beta rho(l))",
    ),
    "apo_down": Method(
        "alignflow.models.losses.anchored:apo_down",
        "Anchored Preference Optimization: lower both, rejected more.",
        options=pairwise.BetaOptions,
        paper="2408.06266",
        formula="s(beta rho(w)) - s(beta (rho(w) - rho(l)))",
    ),
    "nca": Method(
        "alignflow.models.losses.anchored:nca",
        "Noise Contrastive Alignment for pairs.",
        options=pairwise.BetaOptions,
        paper="2402.05369",
        formula="-log s(r(w)) - log s(-r(w)) / 2 - log s(-r(l)) / 2, r = beta rho",
    ),
    "dpop": Method(
        "alignflow.models.losses.anchored:dpop",
        "DPO-Positive (Smaug): holds the chosen answer up.",
        options=pairwise.DPOPOptions,
        paper="2402.13228",
        formula="-log s(beta (rho(w) - rho(l) - dpop_lambda max(0, -rho(w))))",
    ),
    "rdpo": Method(
        "alignflow.models.losses.anchored:rdpo",
        "Length-regularised DPO.",
        options=pairwise.RDPOOptions,
        paper="2403.19159",
        formula="-log s(beta (rho(w) - rho(l)) + alpha (|w| - |l|))",
    ),
    "dpo_length_normalised": Method(
        "alignflow.models.losses.weighted:dpo_length_normalised",
        "DPO with log-ratios as means over tokens (Tulu 3).",
        options=pairwise.LengthNormalisedOptions,
        paper="2411.15124",
        formula="-log s(beta (rho(w) / |w| - rho(l) / |l|))",
    ),
    "wpo": Method(
        "alignflow.models.losses.weighted:wpo",
        "Weighted Preference Optimization: pairs that the policy would write count more.",
        options=pairwise.WPOOptions,
        paper="2406.11827",
        needs=("logps", "squared_probability"),
        formula="-min(1, w(w) w(l)) log s(beta (rho(w) - rho(l))), w(y) = exp(avg [lp_t - log sum p^2])",
    ),
    "slic_hf": Method(
        "alignflow.models.losses.reference_free:slic_hf",
        "SLiC-HF: a hinge on log-probabilities, and a pull to the chosen answer.",
        options=pairwise.SLiCOptions,
        paper="2305.10425",
        needs_reference=False,
        nll_option="reg_coef",
        formula="max(0, delta - lp(w) + lp(l)) - reg_coef lp(w)",
    ),
    "simpo": Method(
        "alignflow.models.losses.reference_free:simpo",
        "Simple Preference Optimization: mean log-probability as the reward.",
        options=pairwise.SimPOOptions,
        paper="2405.14734",
        needs_reference=False,
        formula="-log s(beta (avg lp(w) - avg lp(l)) - gamma)",
    ),
    "cpo": Method(
        "alignflow.models.losses.reference_free:cpo",
        "Contrastive Preference Optimization: DPO without a reference, with behaviour cloning.",
        options=pairwise.CPOOptions,
        paper="2401.08417",
        needs_reference=False,
        nll_option="cpo_alpha",
        formula="-log s(beta (lp(w) - lp(l))) + cpo_alpha NLL(w)",
    ),
    "orpo": Method(
        "alignflow.models.losses.reference_free:orpo",
        "Odds Ratio Preference Optimization: SFT and preferences in one step.",
        options=pairwise.ORPOOptions,
        paper="2403.07691",
        needs_reference=False,
        nll_option="beta",
        formula="NLL(w) - beta log s(logodds(w) - logodds(l)), odds of exp(avg lp)",
    ),
    "lipo": Method(
        "alignflow.models.losses.listwise:lipo",
        "LiPO-lambda: pairs of a list, weighed by what their exchange does to the DCG.",
        options=lists.LiPOOptions,
        family="lists",
        paper="2402.01878",
        formula="-sum over psi_i > psi_j of |2^psi_i - 2^psi_j| |1 / log2(1 + rank_i) - 1 / log2(1 + rank_j)| log s(beta (rho_i - rho_j)), "
        "psi the label, rank by the current rho",
    ),
    "list_mle": Method(
        "alignflow.models.losses.listwise:list_mle",
        "ListMLE: the likelihood of the whole order.",
        options=lists.ListMLEOptions,
        family="lists",
        paper="2402.01878",
        formula="sum over k of log [sum over i >= k of exp(beta rho_i)] - beta rho_k, best answer first",
    ),
    "rrhf": Method(
        "alignflow.models.losses.listwise:rrhf",
        "RRHF: a hinge on mean log-probabilities, and SFT on the best answer.",
        options=lists.RRHFOptions,
        family="lists",
        paper="2304.05302",
        needs_reference=False,
        formula="rank_weight sum over r_i < r_j of max(0, avg lp_i - avg lp_j) - lp(best), r the score",
    ),
    "pro": Method(
        "alignflow.models.losses.listwise:pro",
        "Preference Ranking Optimization: each answer against those below it, and SFT on the best.",
        options=lists.PROOptions,
        family="lists",
        paper="2306.17492",
        needs_reference=False,
        formula="sum over k < K of log [exp(p_k / T_kk) + sum over i > k of exp(p_i / T_ki)] - p_k / T_kk - sft_coefficient (K - 1)^2 lp(best), "
        "p = avg lp, 1 / T_ki = r_k - r_i, 1 / T_kk the largest of them, best answer first",
    ),
    "kto": Method(
        "alignflow.models.losses.binary_feedback:kto",
        "Kahneman-Tversky Optimization: good and bad answers, without pairs.",
        options=unpaired.KTOOptions,
        family="unpaired",
        paper="2402.01306",
        whole_step="alignflow.models.losses.step_scalars:kto_step",
        step_reads="mismatched",
        formula="desirable_weight s(beta (z0 - rho)) if good, undesirable_weight s(beta (rho - z0)) if bad, "
        "z0 = max(0, mean rho of mismatched prompts and answers)",
    ),
    "apo_zero_unpaired": Method(
        "alignflow.models.losses.binary_feedback:apo_zero_unpaired",
        "Anchored Preference Optimization without pairs.",
        options=pairwise.BetaOptions,
        family="unpaired",
        paper="2408.06266",
        formula="s(-beta rho) if good, s(beta rho) if bad",
    ),
    "bco": Method(
        "alignflow.models.losses.binary_feedback:bco",
        "Binary Classifier Optimization: the reward classifies good and bad answers.",
        options=unpaired.BCOOptions,
        family="unpaired",
        paper="2404.04656",
        whole_step="alignflow.models.losses.step_scalars:bco_step",
        formula="-log s(r - delta) if good, -log s(delta - r) if bad, r = beta rho, delta = a running mean of r",
    ),
    "dro_v": Method(
        "alignflow.models.losses.binary_feedback:dro_v",
        "Direct Reward Optimisation: a regression on scores, with a value network.",
        options=unpaired.DROVOptions,
        family="scored",
        paper="2405.19107",
        value_network=True,
        formula="(r - V - tau rho)^2 / 2, r the score, V the value network's estimate at the prompt's end; the policy's gradient divided by tau",
    ),
    "cringe": Method(
        "alignflow.models.losses.cringe:cringe",
        "CRINGE: NLL of good answers; tokens of bad ones against probable others.",
        options=unpaired.CRINGEOptions,
        family="unpaired",
        needs=("logps", "cringe_positive"),
        needs_reference=False,
        nll_option="alpha",
        paper="2211.05826",
        measured_with=(("top_k", "top_k"),),
        whole_step="alignflow.models.losses.step_scalars:share_step",
        step_reads="labels",
        formula="NLL(good) + alpha sum_t -log(e^(s*) / (e^(s*) + e^s)) over the tokens of bad answers, s* drawn from the top_k other tokens",
    ),
    "pairwise_cringe": Method(
        "alignflow.models.losses.cringe:pairwise_cringe",
        "Pairwise CRINGE: CRINGE for pairs, with a gate that closes at a margin.",
        options=unpaired.PairwiseCRINGEOptions,
        needs=("logps", "cringe_positive"),
        needs_reference=False,
        nll_option="alpha",
        paper="2312.16682",
        measured_with=(("top_k", "top_k"),),
        formula="g (NLL(w) + alpha Cringe(l)), g = s((b - M) / tau), M = lp(w) - lp(l)",
    ),
    "npo": Method(
        "alignflow.models.losses.negatives:npo",
        "Negative Preference Optimization: forgets bad answers, holds good ones.",
        options=unpaired.NPOOptions,
        family="unpaired",
        nll_option="retain_weight",
        paper="2404.05868",
        whole_step="alignflow.models.losses.step_scalars:share_step",
        step_reads="labels",
        formula="-(2 / beta) log s(-beta rho(bad)) + retain_weight (NLL or KL(ref || pi) of good, as retain says)",
    ),
    "d2o": Method(
        "alignflow.models.losses.negatives:d2o",
        "Distributional Dispreference Optimization: a bad answer against samples of the model.",
        options=unpaired.D2OOptions,
        family="negatives",
        paper="2403.03419",
        formula="-log s((beta / K) sum over samples of rho(y_i) - alpha rho(l)), K the number of samples",
    ),
    "tdpo1": Method(
        "alignflow.models.losses.token_level:tdpo1",
        "Token-level DPO, first form: the answers' KLs to the reference enter the margin.",
        options=token_level.TDPO1Options,
        paper="2404.11999",
        live_reference=True,
        needs=("logps", "forward_kl", "reference_logps"),
        formula="-log s(beta (rho(w) - rho(l)) - beta (SeqKL(l) - SeqKL(w))), SeqKL = sum_t KL(ref || pi)",
    ),
    "tdpo2": Method(
        "alignflow.models.losses.token_level:tdpo2",
        "Token-level DPO, second form: the chosen answer's KL takes no gradient.",
        options=token_level.TDPO2Options,
        paper="2404.11999",
        live_reference=True,
        needs=("logps", "forward_kl", "reference_logps"),
        formula="-log s(beta (rho(w) - rho(l)) - alpha beta (SeqKL(l) - sg(SeqKL(w)))), SeqKL = sum_t KL(ref || pi)",
    ),
    "ld_dpo": Method(
        "alignflow.models.losses.token_level:ld_dpo",
        "Length-desensitised DPO: tokens beyond the shorter answer's length weigh less.",
        options=token_level.LDDPOOptions,
        paper="2409.06411",
        reference_tokens=True,
        formula="-log s(beta (rho(w) - rho(l))), tokens beyond min(|w|, |l|) weighed by ld_alpha",
    ),
    "beta_dpo": Method(
        "alignflow.models.losses.beta_dpo:beta_dpo",
        "DPO with a beta for each step, and without pairs far from the usual gap.",
        options=token_level.BetaDPOOptions,
        paper="2407.08639",
        whole_step="alignflow.models.losses.step_scalars:beta_dpo_step",
        formula="-v log s(b (rho(w) - rho(l))), b = beta (1 + alpha (avg gap - M0)), v = 0 for pairs left out",
    ),
    "gkd": Method(
        "alignflow.models.losses.token_level:gkd",
        "Generalized Knowledge Distillation: the divergence from a teacher on given answers.",
        options=token_level.GKDTrainingOptions,
        family="demonstrations",
        paper="2306.13649",
        needs=("logps", "generalized_jsd"),
        needs_reference=False,
        teacher="teacher",
        measured_with=(("jsd_beta", "beta"), ("temperature", "temperature")),
        formula="avg over tokens of beta KL(teacher || m) + (1 - beta) KL(pi || m), m = beta teacher + (1 - beta) pi",
    ),
    "ppo": Method(
        "alignflow.models.losses.ppo:total_loss",
        "Proximal Policy Optimization: RLHF with a value model.",
        options=online.PPOOptions,
        family="online",
        paper="1707.06347",
        formula="max(-A r, -A clip(r, 1 - cliprange, 1 + cliprange)) per token, r = pi / pi_old",
    ),
}
