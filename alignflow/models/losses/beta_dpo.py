"""beta-DPO: a beta and a choice of pairs for each optimizer step, from the gaps of all its pairs; and the loss that uses them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import logsigmoid

from alignflow.data.configs.token_level import BetaDPOOptions
from alignflow.models.losses.base import LossOutput, PairBatch, ema_update, pair_metrics

MIN_BETA = 1e-3
ROUNDING = 1e-3
"""Standard deviation of gaps, nats, below which differences are rounding of fp32 sums over tokens."""


def beta_dpo(batch: PairBatch, options: BetaDPOOptions) -> LossOutput:
    """-log sigmoid(beta (rho(w) - rho(l))) with the step's beta, times the pair's weight (Wu et al. 2024, arXiv 2407.08639).

    Beta and weights come from `step_of_gaps` and take no gradient. At the reference the loss is ln 2 times the weight. With
    alpha = 0 and keep_fraction = 1 it is DPO.

    Args:
        batch: Pairs with reference sums, `step["beta"]` (scalar, 1/nats) and `weight`. If no pair is filtered, as on held-out
            pairs, weight is None and beta is `options.beta`.
        options: alpha and others, which `step_of_gaps` has used.

    Returns:
        Loss (pairs,), and metrics over all pairs, also those that were filtered out: rewards options.beta * rho, which can be
        compared over steps, and the step's `beta`.

    Raises:
        ValueError: there is no beta of the step.
    """
    if "beta" not in batch.chosen.step:
        raise ValueError("beta-DPO needs a beta of the whole step: compute it with step_of_gaps")
    rho_w, rho_l = batch.logratios()
    beta = batch.chosen.step["beta"].to(rho_w).detach()
    loss = batch.weighted(-logsigmoid(beta * (rho_w - rho_l)))
    output = LossOutput(loss, pair_metrics(batch, options.beta * rho_w, options.beta * rho_l))
    return output.showing({"beta": beta.expand_as(rho_w)})


def gaps_of(batch: PairBatch, options: BetaDPOOptions) -> torch.Tensor:
    """M = rho(w) - rho(l), (pairs,) nats, without gradients; times beta with `scale_gap_by_beta`."""
    rho_w, rho_l = batch.logratios()
    return (rho_w - rho_l).detach() * (options.beta if options.scale_gap_by_beta else 1.0)


@dataclass(frozen=True)
class GapAverages:
    """Moving averages over the steps so far, which are saved with the training. At the reference all gaps are 0, hence the start.

    Attributes:
        mean: M0, of the steps' mean gaps, nats.
        deviation: sigma, of the steps' standard deviations, nats.
    """

    mean: float = 0.0
    deviation: float = 0.0


@dataclass(frozen=True)
class BetaStep:
    """Beta and weights of an optimizer step of beta-DPO.

    Attributes:
        beta: Scalar fp64, 1/nats: `step["beta"]` of the step's batches.
        weight: (pairs,) fp64: `weight` of both answers of each pair. 0 for a pair that is filtered out, and pairs / kept for the others,
            so that the mean over all pairs is that over the kept ones.
        averages: The state after the step.
    """

    beta: torch.Tensor
    weight: torch.Tensor
    averages: GapAverages


def step_of_gaps(gaps: torch.Tensor, before: GapAverages, options: BetaDPOOptions, seed: int) -> BetaStep:
    """Beta and weights of a step (Wu et al. 2024, arXiv 2407.08639), in the order of the authors' code.

    First the averages include the step's gaps; then pairs are drawn, and beta depends on the mean gap of the kept ones.

    Args:
        gaps: (pairs,) `gaps_of` all pairs of the step, of all processes and micro-batches, in the order of the step.
        before: The state before the step.
        options: beta, alpha, keep_fraction, momentum.
        seed: Seed of the draw: a different one for each step, the same in all processes.

    Raises:
        ValueError: there is no pair.
    """
    if not len(gaps):
        raise ValueError("a step of beta-DPO needs at least one pair")
    gaps = gaps.detach().double().cpu()
    spread = gaps.std() if len(gaps) > 1 else gaps.new_zeros(())
    averages = GapAverages(
        ema_update(before.mean, float(gaps.mean()), options.momentum),
        ema_update(before.deviation, float(spread), options.momentum),
    )
    kept = draw_pairs(gaps, averages, options.keep_fraction, torch.Generator().manual_seed(seed))
    weight = torch.zeros_like(gaps).index_fill(0, kept, len(gaps) / len(kept))
    return BetaStep(batch_beta(gaps[kept], averages.mean, options), weight, averages)


def batch_beta(gaps: torch.Tensor, mean: float, options: BetaDPOOptions) -> torch.Tensor:
    """beta (1 + alpha (mean of gaps - M0)), at least 0.001; a scalar of the gaps' type, 1/nats."""
    return (options.beta * (1 + options.alpha * (gaps.mean() - mean))).clamp(min=MIN_BETA).detach()


def filter_log_weights(gaps: torch.Tensor, averages: GapAverages) -> torch.Tensor:
    """-(M - M0)^2 / (2 sigma^2), (pairs,): logarithms, since the weights of far gaps are 0 in any type. All 0 if sigma is only
    rounding: then all gaps of a step were equal, and their rest depends on how the step is split."""
    if averages.deviation < ROUNDING:
        return torch.zeros_like(gaps)
    return -((gaps - averages.mean) / averages.deviation).square() / 2


def draw_pairs(
    gaps: torch.Tensor, averages: GapAverages, keep_fraction: float, generator: torch.Generator
) -> torch.Tensor:
    """(kept,) int64, ascending: positions of the kept pairs, at least one, drawn without replacement by their weights.

    The largest of log weight + Gumbel noise are such a draw (Kool et al. 2019, arXiv 1903.06059), also if too few weights
    are above 0, in which case the nearest gaps are taken.
    """
    count = max(1, int(len(gaps) * keep_fraction + 1e-9))
    noise = -torch.empty_like(gaps).exponential_(generator=generator).log()
    return (filter_log_weights(gaps, averages) + noise).topk(count).indices.sort().values
