"""DPO with weights of answers or pairs: length normalisation, WPO."""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from alignflow.data.configs.pairwise import LengthNormalisedOptions, WPOOptions
from alignflow.models.losses.base import LossOutput, OfflineBatch, PairBatch, at_least_fp32, pair_metrics


def dpo_length_normalised(batch: PairBatch, options: LengthNormalisedOptions) -> LossOutput:
    """-log sigmoid(beta (rho(w) / |w| - rho(l) / |l|)) (Lambert et al. 2024, "Tulu 3", arXiv 2411.15124, equation 6).

    At the reference it is ln 2. Metrics: rewards beta * rho / length.
    """
    (rho_w, rho_l), (len_w, len_l) = batch.logratios(), batch.lengths()
    rewards = options.beta * rho_w / len_w, options.beta * rho_l / len_l
    return LossOutput(-logsigmoid(rewards[0] - rewards[1]), pair_metrics(batch, *rewards))


def wpo(batch: PairBatch, options: WPOOptions) -> LossOutput:
    """DPO's loss times w(w) w(l), at most 1, without gradient (Zhou et al. 2024, "WPO", arXiv 2406.11827).

    It needs `squared_probability` of every token. At the reference it is ln 2 times the weight. TRL does not cap the product.
    """
    return wpo_weighted(batch, wpo_weights(batch.chosen), wpo_weights(batch.rejected), options)


def wpo_weighted(batch: PairBatch, w_w: torch.Tensor, w_l: torch.Tensor, options: WPOOptions) -> LossOutput:
    """`wpo` for weights (pairs,) of the chosen and the rejected answers; they get no gradient."""
    rho_w, rho_l = batch.logratios()
    rewards = options.beta * rho_w, options.beta * rho_l
    weight = (w_w * w_l).detach().clamp(max=1)
    output = LossOutput(-weight * logsigmoid(rewards[0] - rewards[1]), pair_metrics(batch, *rewards))
    return output.showing({"weights": weight})


def wpo_weights(answers: OfflineBatch) -> torch.Tensor:
    """w(y) = exp(mean_t [log pi(y_t) - log sum_v pi(v)^2]), (answers,): 1 for a typical sample of the policy; 1 without tokens."""
    logps, squares = (at_least_fp32(answers.statistics[name]).detach() for name in ("logps", "squared_probability"))
    return (answers.sums(logps - squares.log()) / answers.tokens.clamp(min=1)).exp()
