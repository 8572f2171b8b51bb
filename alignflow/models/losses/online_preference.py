"""Losses on a better and a worse answer that the policy, or its reference, has just sampled: online DPO, XPO."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from alignflow.data.configs.online_preference import OnlineDPOOptions, XPOOptions
from alignflow.models.losses.base import LossOutput, PairBatch, at_least_fp32

PairLoss = Callable[[PairBatch], LossOutput]
"""A loss of offline pairs with its options bound."""


@dataclass(frozen=True)
class OrderedBatch:
    """Pairs with the better answer first.

    Attributes:
        pairs: The chosen and the rejected answers.
        opponent_logps: (pairs,) the policy's summed log-probability of the answer that the opponent wrote, nats, with gradient.
    """

    pairs: PairBatch
    opponent_logps: torch.Tensor


def online_dpo(batch: OrderedBatch, options: OnlineDPOOptions, pair_loss: PairLoss) -> LossOutput:
    """A pair loss on samples of the policy (Guo et al. 2024, "OAIF", arXiv 2402.04792, algorithm 1).

    Gradients go through the log-probabilities of both answers and not through the sampling. At the reference DPO's loss is ln 2.

    Args:
        batch: Pairs with reference sums.
        options: The method's options; the pair loss has its options bound.
        pair_loss: The loss.

    Returns:
        Loss (pairs,), and the pair loss's metrics.
    """
    return pair_loss(batch.pairs)


def xpo(batch: OrderedBatch, options: XPOOptions, pair_loss: PairLoss) -> LossOutput:
    """The pair loss plus alpha lp(y'), y' the reference's answer (Xie et al. 2024, "XPO", arXiv 2405.21046, algorithm 1).

    The bonus is minimised: probability moves from the reference's answers to new ones. Pairs that
    were left out have none.

    Args:
        batch: Pairs with reference sums, and the policy's log-probability of the reference's answers.
        options: alpha (1/nats).
        pair_loss: The loss of the pairs.

    Returns:
        Loss (pairs,), the pair loss's metrics, and `loss/dpo` and `loss/xpo`, the two terms, as in TRL.
    """
    found, bonus = pair_loss(batch.pairs), options.alpha * at_least_fp32(batch.opponent_logps)
    shown = {"loss/dpo": found.loss, "loss/xpo": bonus}
    return LossOutput(found.loss + bonus, found.metrics).showing(shown)
