"""Functions of the margin z = beta (rho(w) - rho(l)) other than DPO's: IPO, GPO, RSO's hinge, EXO, f-DPO."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch.nn.functional import logsigmoid, softplus

from alignflow.data.configs.pairwise import EXOOptions, FDPOOptions, GPOOptions, IPOOptions, RSOOptions
from alignflow.models.losses.base import LossOutput, PairBatch, exp_capped, expm1_capped, pair_metrics

FORMS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "logistic": lambda z: softplus(-z),
    "hinge": lambda z: torch.relu(1 - z),
    "squared": lambda z: (z - 1).square(),
    "exponential": lambda z: exp_capped(-z),
    "truncated_squared": lambda z: torch.relu(1 - z).square(),
    "savage": lambda z: torch.sigmoid(-z).square(),
}
"""GPO's functions of the margin (arXiv 2402.05749, table 1)."""


def ipo(batch: PairBatch, options: IPOOptions) -> LossOutput:
    """(h - 1 / (2 tau))^2 with h = rho(w) - rho(l) (Azar et al. 2023, arXiv 2310.12036, equation 17), tau = beta.

    With `length_normalise` each rho is a mean over its tokens, as in TRL, and the target is in nats per token. At the
    reference the loss is 1 / (4 tau^2). Metrics: rewards tau * rho, sums in either case.
    """
    rho_w, rho_l = batch.logratios()
    len_w, len_l = batch.lengths() if options.length_normalise else (1, 1)
    loss = (rho_w / len_w - rho_l / len_l - 1 / (2 * options.beta)).square()
    return LossOutput(loss, pair_metrics(batch, options.beta * rho_w, options.beta * rho_l))


def gpo(batch: PairBatch, options: GPOOptions) -> LossOutput:
    """f(z) with f of `FORMS` (Tang et al. 2024, arXiv 2402.05749, equation 4); logistic is DPO.

    At the reference: ln 2, 1, 1, 1, 1, 1/4. The only source of the squared, exponential, truncated and Savage forms is the paper.
    """
    rho_w, rho_l = batch.logratios()
    rewards = options.beta * rho_w, options.beta * rho_l
    return LossOutput(FORMS[options.form](rewards[0] - rewards[1]), pair_metrics(batch, *rewards))


def rso_hinge(batch: PairBatch, options: RSOOptions) -> LossOutput:
    """max(0, 1 - z), the hinge normalised by a reference (Liu et al. 2023, arXiv 2309.06657, equation 10); TRL's `hinge`.

    At the reference it is 1. No gradient at the margin and beyond.
    """
    rho_w, rho_l = batch.logratios()
    rewards = options.beta * rho_w, options.beta * rho_l
    return LossOutput(torch.relu(1 - (rewards[0] - rewards[1])), pair_metrics(batch, *rewards))


def exo(batch: PairBatch, options: EXOOptions) -> LossOutput:
    """KL( softmax(beta rho(w), beta rho(l)) || (1 - e, e) ), e = label_smoothing (Ji et al. 2024, "EXO", arXiv 2402.00856).

    At the reference it is -ln 2 - (ln(1 - e) + ln e) / 2.
    """
    rho_w, rho_l = batch.logratios()
    rewards, e = (options.beta * rho_w, options.beta * rho_l), options.label_smoothing
    z = rewards[0] - rewards[1]
    loss = torch.sigmoid(z) * (logsigmoid(z) - math.log1p(-e)) + torch.sigmoid(-z) * (logsigmoid(-z) - math.log(e))
    return LossOutput(loss, pair_metrics(batch, *rewards))


def f_dpo(batch: PairBatch, options: FDPOOptions) -> LossOutput:
    """-log sigmoid(beta (f'(u(w)) - f'(u(l)))) with u = pi / pi_ref (Wang et al. 2023, arXiv 2309.16240, equation 10).

    f' is, without constants: log u (reverse KL), -1/u (forward KL), log(2u / (1 + u)) (Jensen-Shannon),
    (u^(alpha - 1) - 1) / (alpha - 1). Ratios of whole answers overflow: beyond a cap their exponentials continue
    as tangents, see `exp_capped`. At the reference the loss is ln 2. The alpha form's only source is the paper. Metrics: rewards beta * rho.
    """
    rho_w, rho_l = batch.logratios()
    z = options.beta * (_derivative(rho_w, options) - _derivative(rho_l, options))
    return LossOutput(softplus(-z), pair_metrics(batch, options.beta * rho_w, options.beta * rho_l))


def _derivative(rho: torch.Tensor, options: FDPOOptions) -> torch.Tensor:
    """f'(u) at u = exp(rho)."""
    kind, power = options.f_divergence_type, options.f_alpha_divergence_coef - 1
    if kind == "forward_kl":
        return -exp_capped(-rho)
    if kind == "js_divergence":
        return math.log(2) - softplus(-rho)
    if kind == "alpha_divergence" and power != 0:
        return expm1_capped(power * rho) / power
    return rho
