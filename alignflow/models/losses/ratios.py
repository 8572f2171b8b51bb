"""Policy losses other than PPO's clip: ratios of whole answers, ratios without a gradient, a gate instead of the clip.

Each gives a loss per token. A loss of a whole answer is repeated on each of its tokens, so that with `aggregate: sequence` the trainer's
mean over answers of token means is the mean over answers.
"""

from __future__ import annotations

import torch

from alignflow.data.configs.online import OnlineOptions
from alignflow.models.losses.ppo import (
    LARGEST_LOGRATIO,
    PolicyBatch,
    TokenLoss,
    clipped_surrogate,
    masked_difference,
    ratio_figures,
)


def sequence_clip(batch: PolicyBatch, options: OnlineOptions) -> TokenLoss:
    """PPO's clip on the ratio of the whole answer, exp(sum of log-ratios).

    At ratio 1 its gradient is that of -A lp, with lp the SUM of the answer's log-probabilities: REINFORCE with the answer as one action
    (Ahmadian et al. 2024, arXiv 2402.14740, equation 6). The clip makes several passes over the answers possible.
    """
    return _clipped(batch, _sums(_logratio(batch), batch), options)


def gspo(batch: PolicyBatch, options: OnlineOptions) -> TokenLoss:
    """PPO's clip on exp(mean of the answer's log-ratios) (Zheng et al. 2025, arXiv 2507.18071, equations 5 to 7)."""
    return _clipped(batch, _means(_logratio(batch), batch), options)


def gspo_token(batch: PolicyBatch, options: OnlineOptions) -> TokenLoss:
    """GSPO's ratio in value, each token's own log-probability in the gradient: sg(s) pi / sg(pi) (arXiv 2507.18071, equations 13 and 14).

    With one advantage per answer its value and its gradient are those of `gspo`; they differ if advantages differ by token.
    """
    logratio = _logratio(batch)
    return _clipped(batch, _means(logratio, batch).detach() + logratio - logratio.detach(), options)


def cispo(batch: PolicyBatch, options: OnlineOptions) -> TokenLoss:
    """-sg(clip(r, 1 - cliprange, 1 + cliprange_high)) A log pi (MiniMax 2025, arXiv 2506.13585, equations 4 and 5): every token keeps a gradient.

    Metrics: as `clipped_policy_loss`; `clipfrac`: whether the ratio is outside of the bounds.
    """
    mask, logratio = batch.mask.bool(), _logratio(batch)
    ratio = logratio.detach().exp()
    low, high = _bounds(options)
    clipped = ratio.clamp(1 - low, 1 + high)
    logps = torch.where(mask, batch.logps, torch.zeros_like(batch.logps))
    advantages = torch.where(mask, batch.advantages, torch.zeros_like(batch.advantages))
    return TokenLoss(-clipped * advantages * logps, ratio_figures(logratio, clipped != ratio, mask))


def sapo(batch: PolicyBatch, options: OnlineOptions) -> TokenLoss:
    """-A 4 / tau sigmoid(tau (r - 1)), tau by the sign of A (Gao et al. 2025, arXiv 2511.20347): steps fade as the ratio leaves 1.

    The gate's slope at ratio 1 is 1, so that the first step is REINFORCE's. Metric `clipfrac` is 0: nothing is clipped.
    """
    mask, logratio = batch.mask.bool(), _logratio(batch)
    advantages = torch.where(mask, batch.advantages, torch.zeros_like(batch.advantages))
    positive, negative = (
        torch.full_like(logratio, steepness)
        for steepness in (options.sapo_temperature_pos, options.sapo_temperature_neg)
    )
    steepness = torch.where(advantages > 0, positive, negative)
    gate = torch.sigmoid(steepness * (logratio.clamp(max=LARGEST_LOGRATIO).exp() - 1)) * 4 / steepness
    loss = torch.where(mask, -advantages * gate, torch.zeros_like(gate))
    return TokenLoss(loss, ratio_figures(logratio, torch.zeros_like(mask), mask))


def _clipped(batch: PolicyBatch, logratio: torch.Tensor, options: OnlineOptions) -> TokenLoss:
    """The clip on ratios of answers; `approxkl` is still per token, so that `target_kl` means the same for every loss."""
    low, high = _bounds(options)
    mask = batch.mask.bool()
    found = clipped_surrogate(logratio, batch.advantages, mask, low, high, options.dual_clip)
    tokens = ratio_figures(_logratio(batch), torch.zeros_like(mask), mask)
    return TokenLoss(found.loss, {**found.metrics, **{name: tokens[name] for name in ("approxkl", "approxkl_k1")}})


def _bounds(options: OnlineOptions) -> tuple[float, float]:
    return options.cliprange, options.cliprange if options.cliprange_high is None else options.cliprange_high


def _logratio(batch: PolicyBatch) -> torch.Tensor:
    return masked_difference(batch.logps, batch.old_logps, batch.mask.bool())


def _sums(values: torch.Tensor, batch: PolicyBatch) -> torch.Tensor:
    """Each token's sum over its answer: (N,) with `rows`, or (rows, time)."""
    if batch.rows is None:
        if values.ndim != 2:
            raise ValueError("a loss of whole answers needs the answer of each token: pass rows")
        return values.sum(1, keepdim=True).expand_as(values)
    count = int(batch.rows.max()) + 1 if len(batch.rows) else 0
    return values.new_zeros(count).index_add(0, batch.rows, values)[batch.rows]


def _means(values: torch.Tensor, batch: PolicyBatch) -> torch.Tensor:
    return _sums(values, batch) / _sums(batch.mask.to(values), batch).clamp(min=1)
