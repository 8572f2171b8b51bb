"""Pairwise losses without a reference model: SLiC-HF, SimPO, CPO, ORPO."""

from __future__ import annotations

import math

import torch
from torch.nn.functional import logsigmoid

from alignflow.data.configs.pairwise import CPOOptions, ORPOOptions, SimPOOptions, SLiCOptions
from alignflow.models.losses.base import LossOutput, PairBatch, at_least_fp32, pair_metrics


def slic_hf(batch: PairBatch, options: SLiCOptions) -> LossOutput:
    """max(0, delta - lp(w) + lp(l)) - lambda lp(target) (Zhao et al. 2023, arXiv 2305.10425, equation 1), the chosen answer as target.

    Log-probabilities are sums. Its only source is the paper. Metrics: rewards are the log-probabilities.
    """
    return slic_hf_with_target(batch, batch.logps()[0], options)


def slic_hf_with_target(batch: PairBatch, lp_target: torch.Tensor, options: SLiCOptions) -> LossOutput:
    """`slic_hf` with log-probabilities (pairs,) of separate answers as the target."""
    lp_w, lp_l = batch.logps()
    loss = torch.relu(options.delta - lp_w + lp_l) - options.reg_coef * lp_target
    return LossOutput(loss, pair_metrics(batch, lp_w, lp_l))


def simpo(batch: PairBatch, options: SimPOOptions) -> LossOutput:
    """-log sigmoid(beta avg lp(w) - beta avg lp(l) - gamma), means over answer tokens (Meng et al. 2024, arXiv 2405.14734, equation 6)."""
    mean_w, mean_l = batch.mean_logps()
    rewards = options.beta * mean_w, options.beta * mean_l
    return LossOutput(-logsigmoid(rewards[0] - rewards[1] - options.gamma), pair_metrics(batch, *rewards))


def cpo(batch: PairBatch, options: CPOOptions) -> LossOutput:
    """-log sigmoid(beta (lp(w) - lp(l))) + cpo_alpha NLL(w) (Xu et al. 2024, arXiv 2401.08417, equations 3 and 5), sums over tokens.

    The NLL is a mean over the chosen answers' tokens of the whole optimizer step (`token`), or a sum per answer (`sequence`).
    """
    lp_w, lp_l = batch.logps()
    rewards, nll = (options.beta * lp_w, options.beta * lp_l), -options.cpo_alpha * lp_w
    preference, metrics = -logsigmoid(rewards[0] - rewards[1]), pair_metrics(batch, *rewards)
    if options.nll_reduction == "sequence":
        return LossOutput(preference + nll, metrics)
    return LossOutput(preference, metrics, nll)


def orpo(batch: PairBatch, options: ORPOOptions) -> LossOutput:
    """NLL(w) - beta log sigmoid(logodds(w) - logodds(l)) (Hong et al. 2024, arXiv 2403.07691, equations 6 and 7).

    logodds = a - log(1 - e^a) with a the mean log-probability of an answer's tokens. The NLL is a mean over the chosen
    answers' tokens of the whole optimizer step. With `nll_tokens="prompt_and_answer"`, the form of TRL and the authors' code, the
    chosen side of the batch has `prompt_logps`, and the mean is over the tokens of prompts and answers. An answer of probability 1 has no finite odds: its
    gradient is 0. Metrics in addition to TRL's rewards beta * a: `log_odds_chosen`, `log_odds_ratio`.
    """
    mean_w, mean_l = batch.mean_logps()
    log_odds = (mean_w - log1mexp(mean_w)) - (mean_l - log1mexp(mean_l))
    ratio = logsigmoid(log_odds)
    nll = -batch.logps()[0]
    if options.nll_tokens == "prompt_and_answer":
        if batch.chosen.prompt_logps is None:
            raise ValueError(
                "the NLL over prompts needs their log-probabilities: pass prompt_logps of the chosen answers"
            )
        nll = nll - at_least_fp32(batch.chosen.prompt_logps)
    output = LossOutput(-options.beta * ratio, pair_metrics(batch, options.beta * mean_w, options.beta * mean_l), nll)
    return output.showing({"log_odds_chosen": log_odds, "log_odds_ratio": ratio})


def log1mexp(a: torch.Tensor) -> torch.Tensor:
    """log(1 - e^a) for a < 0, with finite values and gradients as near to 0 as the dtype allows; at 0 the gradient is 0.

    The branch that is not taken computes with another value, or its gradient would be NaN (Maechler 2012, "log1mexp").
    """
    a = a.clamp(max=-torch.finfo(a.dtype).tiny)
    near, middle = a > -math.log(2), torch.full_like(a, -math.log(2))
    small, large = torch.where(near, a, middle), torch.where(near, middle, a)
    return torch.where(near, torch.log(-torch.expm1(small)), torch.log1p(-torch.exp(large)))
