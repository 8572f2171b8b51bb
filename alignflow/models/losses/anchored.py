"""Losses with a term for each answer's reward, in addition to or instead of their difference: APO, NCA, DPO-Positive, R-DPO."""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from alignflow.data.configs.pairwise import BetaOptions, DPOPOptions, RDPOOptions
from alignflow.models.losses.base import LossOutput, PairBatch, pair_metrics


def apo_zero(batch: PairBatch, options: BetaOptions) -> LossOutput:
    """-sigmoid(r(w)) + sigmoid(r(l)), r = beta rho (D'Oosterlinck et al. 2024, "APO-zero", arXiv 2408.06266).

    It raises the chosen answer and lowers the rejected one. At the reference it is 0; TRL adds 1.
    """
    rho_w, rho_l = batch.logratios()
    rewards = options.beta * rho_w, options.beta * rho_l
    return LossOutput(torch.sigmoid(rewards[1]) - torch.sigmoid(rewards[0]), pair_metrics(batch, *rewards))


def apo_down(batch: PairBatch, options: BetaOptions) -> LossOutput:
    """sigmoid(r(w)) - sigmoid(r(w) - r(l)), r = beta rho (D'Oosterlinck et al. 2024, "APO-down", arXiv 2408.06266).

    It lowers both answers, the rejected one more: for a model that is better than its chosen answers. At the reference
    it is 0; TRL adds 1.
    """
    rho_w, rho_l = batch.logratios()
    rewards = options.beta * rho_w, options.beta * rho_l
    loss = torch.sigmoid(rewards[0]) - torch.sigmoid(rewards[0] - rewards[1])
    return LossOutput(loss, pair_metrics(batch, *rewards))


def nca(batch: PairBatch, options: BetaOptions) -> LossOutput:
    """-log sigmoid(r(w)) - log sigmoid(-r(w)) / 2 - log sigmoid(-r(l)) / 2, r = beta rho (Chen et al. 2024, arXiv 2402.05369).

    Noise contrastive alignment for pairs. At the reference it is 2 ln 2.
    """
    rho_w, rho_l = batch.logratios()
    r_w, r_l = options.beta * rho_w, options.beta * rho_l
    loss = -logsigmoid(r_w) - logsigmoid(-r_w) / 2 - logsigmoid(-r_l) / 2
    return LossOutput(loss, pair_metrics(batch, r_w, r_l))


def dpop(batch: PairBatch, options: DPOPOptions) -> LossOutput:
    """-log sigmoid(beta (rho(w) - rho(l) - lambda max(0, -rho(w)))) (Pal et al. 2024, arXiv 2402.13228, equation 3).

    DPO-Positive: the nats that the chosen answer lost count against it. At the reference it is ln 2. Its only source is
    the paper. Metrics: rewards beta * rho.
    """
    rho_w, rho_l = batch.logratios()
    z = options.beta * (rho_w - rho_l - options.dpop_lambda * torch.relu(-rho_w))
    return LossOutput(-logsigmoid(z), pair_metrics(batch, options.beta * rho_w, options.beta * rho_l))


def rdpo(batch: PairBatch, options: RDPOOptions) -> LossOutput:
    """-log sigmoid(beta (rho(w) - rho(l)) + alpha (|w| - |l|)) (Park et al. 2024, arXiv 2403.19159).

    Lengths in tokens, the end included. A longer chosen answer is partly explained by its length, so that its gradient is
    smaller; hence the sign. Its only source is the paper. Metrics: rewards beta * rho, without lengths.
    """
    rho_w, rho_l = batch.logratios()
    difference = (batch.chosen.tokens - batch.rejected.tokens).to(rho_w.dtype)
    z = options.beta * (rho_w - rho_l) + options.alpha * difference
    return LossOutput(-logsigmoid(z), pair_metrics(batch, options.beta * rho_w, options.beta * rho_l))
