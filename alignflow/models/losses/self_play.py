"""Losses of self-play: on win rates of the policy's answers against itself, and on the best of them."""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from alignflow.data.configs.iterated import DNOOptions, SPPOOptions
from alignflow.data.configs.options import NoOptions
from alignflow.models.losses.base import LossOutput, OfflineBatch, PairBatch, at_least_fp32, pair_metrics

HARD = (1.0, 0.0)
"""Hard targets: the win rates of a better answer that beats all, and of a worse one that beats none."""


def sppo(batch: PairBatch, options: SPPOOptions) -> LossOutput:
    """[(rho(w) - eta (P(w) - 1/2))^2 + (rho(l) - eta (P(l) - 1/2))^2] / 2 (Wu et al. 2024, "SPPO", arXiv 2405.00675, equation 4.1, for
    the best and the worst sample, as the authors' code has it).

    The reference is the policy of the round before, whose samples the win rates P are of. With eta 1000 losses of 1e5 are normal; watch
    the log-ratios, and leave gradient clipping on. `targets: hard` takes 1 and 0 for P and the sum of the squares, as TRL's sppo_hard.

    Args:
        batch: Pairs with reference sums and, for win rates, scores from 0 to 1.
        options: eta (nats), targets.

    Returns:
        Loss (pairs,), nats^2, and TRL's metrics of the rewards rho / eta; `logratios/chosen`, `logratios/rejected`, nats.
    """
    ratios = batch.logratios()
    rates = HARD if options.targets == "hard" else tuple(_win_rates(side) for side in (batch.chosen, batch.rejected))
    squares = [sppo_squares(rho, rate, options.eta) for rho, rate in zip(ratios, rates, strict=True)]
    loss = squares[0] + squares[1]
    output = LossOutput(
        loss if options.targets == "hard" else loss / 2, pair_metrics(batch, *(rho / options.eta for rho in ratios))
    )
    return output.showing({"logratios/chosen": ratios[0], "logratios/rejected": ratios[1]})


def sppo_squares(logratios: torch.Tensor, win_rates: torch.Tensor | float, eta: float) -> torch.Tensor:
    """(answers,): (rho - eta (P - 1/2))^2, nats^2, from (answers,) log-ratios and win rates; equation 4.1 of SPPO for single answers."""
    return (logratios - eta * (win_rates - 0.5)).square()


def dno(batch: PairBatch, options: DNOOptions) -> LossOutput:
    """-p log s(d) - (1 - p) log s(-d), p = s(r_w - r_l), d = eta (rho(w) - rho(l)) (Rosset et al. 2024, "DNO", arXiv 2404.03715, equation 8).

    r is an answer's win rate against the policy of the round before, which is the reference. As a difference of win rates lies between -1 and
    1, the target p lies between 0.27 and 0.73.

    Args:
        batch: Pairs with reference sums and scores, the win rates.
        options: eta (1/nats).

    Returns:
        Loss (pairs,), and TRL's metrics of the rewards eta * rho; `targets`: p.
    """
    rewards = [options.eta * rho for rho in batch.logratios()]
    difference = rewards[0] - rewards[1]
    target = torch.sigmoid(_win_rates(batch.chosen) - _win_rates(batch.rejected))
    loss = -target * logsigmoid(difference) - (1 - target) * logsigmoid(-difference)
    return LossOutput(loss, pair_metrics(batch, *rewards)).showing({"targets": target})


def raft(batch: OfflineBatch, options: NoOptions) -> LossOutput:
    """NLL of the selected answers of the policy, a mean over all their tokens (Dong et al. 2023, "RAFT", arXiv 2304.06767).

    Returns:
        `token_loss` (answers,): sums, which the trainer divides by the tokens of the whole step; `loss` is 0. Metric: `nll_loss`, nats per token.
    """
    sums = -at_least_fp32(batch.logps)
    return LossOutput(torch.zeros_like(sums), {}, sums)


def _win_rates(answers: OfflineBatch) -> torch.Tensor:
    if answers.score is None:
        raise ValueError("this loss learns from win rates: pass them as scores")
    return at_least_fp32(answers.score).detach()
