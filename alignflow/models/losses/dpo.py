"""DPO and its variants for labels that may be flipped."""

from __future__ import annotations

from torch.nn.functional import logsigmoid

from alignflow.data.configs.pairwise import DPOOptions, RobustOptions
from alignflow.models.losses.base import LossOutput, PairBatch, pair_metrics, target_probability


def dpo(batch: PairBatch, options: DPOOptions) -> LossOutput:
    """-log sigmoid(z), z = beta (rho(w) - rho(l)), with rho summed over tokens (Rafailov et al. 2023, arXiv 2305.18290, equation 7).

    With a target p below 1 (label smoothing, or the labeller's soft labels) both orders of the pair are weighted:
    -p log sigmoid(z) - (1 - p) log sigmoid(-z). Smoothing is the "cDPO" of a note, not a paper: Mitchell 2023, "A note on
    DPO with noisy preferences & relationship to IPO". At the reference z is 0 and the loss is ln 2. No gradient reaches
    the reference.

    Args:
        batch: Pairs with reference sums.
        options: beta (1/nats), label_smoothing, use_soft_labels.

    Returns:
        Loss (pairs,), and TRL's metrics: implicit rewards beta * rho.
    """
    rho_w, rho_l = batch.logratios()
    rewards = options.beta * rho_w, options.beta * rho_l
    z = rewards[0] - rewards[1]
    target = target_probability(batch.soft_label, options.use_soft_labels, options.label_smoothing)
    loss = -target * logsigmoid(z) - (1 - target) * logsigmoid(-z)
    return LossOutput(loss, pair_metrics(batch, *rewards))


def robust(batch: PairBatch, options: RobustOptions) -> LossOutput:
    """[-(1 - e) log sigmoid(z) + e log sigmoid(-z)] / (1 - 2e), z as in DPO (Chowdhury et al. 2024, arXiv 2403.00409).

    Its mean is that of DPO on clean labels if labels are flipped at the rate e = label_smoothing. A pair's loss has no
    lower bound if e > 0, so negative losses are normal. At the reference it is ln 2.
    """
    rho_w, rho_l = batch.logratios()
    rewards, e = (options.beta * rho_w, options.beta * rho_l), options.label_smoothing
    z = rewards[0] - rewards[1]
    loss = (-(1 - e) * logsigmoid(z) + e * logsigmoid(-z)) / (1 - 2 * e)
    return LossOutput(loss, pair_metrics(batch, *rewards))
