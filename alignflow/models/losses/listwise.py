"""Losses over several answers to a prompt that scores order: LiPO-lambda, ListMLE, RRHF, PRO.

Each takes an `OfflineBatch` whose answers have a group and a score, and gives one loss per group, in the order of the groups'
numbers. Groups have any sizes. An answer without a score (NaN) is dropped and gets no gradient. Equal scores make no pair.
"""

from __future__ import annotations

import math

import torch
from torch.nn.functional import logsigmoid

from alignflow.data.configs.lists import LiPOOptions, ListMLEOptions, PROOptions, RRHFOptions
from alignflow.models.losses.base import LossOutput, OfflineBatch, at_least_fp32
from alignflow.models.losses.lists import best_first, differences, lists_of, masked_logsumexp


def lipo(batch: OfflineBatch, options: LiPOOptions) -> LossOutput:
    """LiPO-lambda: sum over pairs psi_i > psi_j of Delta_ij log(1 + exp(-(s_i - s_j))) (Liu et al. 2024, arXiv 2402.01878).

    s = beta rho is the implicit reward, psi the label. Delta is `lambda_weights`; it gets no gradient, as the reference gets
    none. If all rewards are equal, as at the start, ranks follow the order of the list: shuffle lists before. For two
    answers this is DPO's loss times a constant. A group without a strict pair has loss 0.

    Labels are taken to lie between 0 and 1 (option `labels`): the gain grows as 2^label, and overflows fp32 at 128.

    `reduction="rax"` is the form of RAX, the authors' library: Delta times the number of the group's answers, and the mean over
    the group's pairs.

    Args:
        batch: Answers with groups, scores and reference sums.
        options: beta (1/nats), labels, reduction.

    Returns:
        Loss (groups,), and `Lists.metrics` of the rewards s.
    """
    lists, rewards = lists_of(batch), options.beta * batch.logratios()
    scores, pairs = lists.grid(rewards), lists.better()
    labels = lists.labels
    if options.labels == "win_rates":
        labels = win_rates(torch.sigmoid(differences(labels)), lists.mask, include_self=True)
    weights = lambda_weights(scores, labels, lists.mask)
    loss = torch.where(pairs, -weights * logsigmoid(differences(scores)), 0.0).sum((1, 2))
    if options.reduction == "rax":
        loss = loss * lists.sizes() / pairs.sum((1, 2)).clamp(min=1)
    return LossOutput(loss, lists.metrics(scores, lists.grid(at_least_fp32(batch.logps))))


def list_mle(batch: OfflineBatch, options: ListMLEOptions) -> LossOutput:
    """ListMLE: the Plackett-Luce NLL of the order that the scores give, for rewards s = beta rho (Xia et al. 2008, "Listwise
    approach to learning to rank"; on implicit rewards as compared with in Liu et al. 2024, arXiv 2402.01878).

    Equal scores are ordered as the list is: shuffle lists before. A group without a strict pair has loss 0. For two answers
    this is DPO's loss. No gradient reaches the reference.
    """
    lists, rewards = lists_of(batch), options.beta * batch.logratios()
    scores = lists.grid(rewards)
    loss = plackett_luce_nll(scores, lists.labels, lists.mask)
    loss = torch.where(lists.better().any(2).any(1), loss, 0.0)
    return LossOutput(loss, lists.metrics(scores, lists.grid(at_least_fp32(batch.logps))))


def rrhf(batch: OfflineBatch, options: RRHFOptions) -> LossOutput:
    """rank_weight times the sum over r_i < r_j of max(0, p_i - p_j), minus lp(best); p = lp / |y| (Yuan et al. 2023, arXiv 2304.05302).

    There is no reference. Of equal best scores the first answer is learnt. A group without a strict pair has the SFT term
    alone. `sft_reduction="mean"` divides it by the answer's tokens. Metrics beside those of the rewards p: `rank_loss`,
    `sft_loss`, both without weights.
    """
    lists, logps = lists_of(batch), at_least_fp32(batch.logps)
    scores, sums = lists.grid(logps / batch.lengths()), lists.grid(logps)
    rank = torch.where(lists.better(), torch.relu(-differences(scores)), 0.0).sum((1, 2))
    sft = -lists.best(scores if options.sft_reduction == "mean" else sums)
    output = LossOutput(options.rank_weight * rank + sft, lists.metrics(scores, sums))
    return output.showing({"rank_loss": rank, "sft_loss": sft})


def pro(batch: OfflineBatch, options: PROOptions) -> LossOutput:
    """PRO: the sum of `pro_terms` of p = lp / |y|, and sft_coefficient (K - 1)^2 times -lp(best) (Song et al. 2023, arXiv 2306.17492).

    K is the number of the group's answers. There is no reference. The range of the scores acts as an inverse temperature:
    standardise them before. Of equal best scores the first answer is learnt. Equal scores leave a constant in the ranking
    terms, ln K at most per answer, without a gradient. Metrics beside those of the rewards p: `rank_loss`, and `sft_loss`
    without its weight.
    """
    lists, logps = lists_of(batch), at_least_fp32(batch.logps)
    scores, sums = lists.grid(logps / batch.lengths()), lists.grid(logps)
    rank, sft = pro_terms(scores, lists.labels, lists.mask).sum(1), -lists.best(sums)
    weight = options.sft_coefficient * (lists.sizes() - 1).square().to(sft.dtype)
    return LossOutput(rank + weight * sft, lists.metrics(scores, sums)).showing({"rank_loss": rank, "sft_loss": sft})


def ordinal_ranks(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(..., K) int64 ranks of (..., K) scores: 1 for the highest; equal scores in the order of the list, padding last."""
    return best_first(scores, mask).argsort(-1) + 1


def lambda_weights(scores: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Delta_ij = |G_i - G_j| |1 / D_i - 1 / D_j|, G = 2^label - 1, D = log2(1 + rank by the current scores) (arXiv 2402.01878).

    The paper does not give the base of the logarithm; 2 is that of RAX. No gradient reaches scores or labels.

    Args:
        scores: (..., K) implicit rewards.
        labels: (..., K).
        mask: (..., K) bool; values outside it are ignored.

    Returns:
        (..., K, K), symmetric, in the type of the scores; 0 if either answer is padding.
    """
    scores, labels = (torch.where(mask, values.detach(), 0.0) for values in (scores, labels))
    gains = torch.expm1(labels * math.log(2))
    discounts = 1 / torch.log2(1 + ordinal_ranks(scores, mask).to(scores.dtype))
    weights = differences(gains).abs() * differences(discounts).abs()
    return torch.where(mask[..., :, None] & mask[..., None, :], weights, 0.0).to(scores.dtype)


def win_rates(preferences: torch.Tensor, mask: torch.Tensor, include_self: bool) -> torch.Tensor:
    """(..., K): each answer's mean probability to beat the answers of its list, without gradients.

    With itself this is psi of LiPO (arXiv 2402.01878), without it the reward of SPO (Swamy et al. 2024, arXiv 2401.04056), which rests
    on the paper alone.

    Args:
        preferences: (..., K, K): P(the row's answer beats the column's). The diagonal is ignored.
        mask: (..., K) bool; values outside it are ignored.
        include_self: Whether an answer is compared with itself, with probability 1/2.

    Returns:
        0 in padding; NaN for an answer without comparisons.
    """
    own = torch.eye(mask.shape[-1], dtype=torch.bool, device=mask.device)
    found = torch.where(own, 0.5, at_least_fp32(preferences).detach())
    met = mask[..., :, None] & mask[..., None, :]
    met = met if include_self else met & ~own
    rates = torch.where(met, found, 0.0).sum(-1) / met.sum(-1)
    return torch.where(mask, rates, 0.0)


def plackett_luce_nll(scores: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(...,): sum over places k of [log sum over i >= k of exp(s_i)] - s_k, in the order of falling labels.

    Equal labels are in the order of the list. A list of one answer has 0.

    Args:
        scores: (..., K) with gradients.
        labels: (..., K).
        mask: (..., K) bool; values outside it are ignored.
    """
    order = best_first(labels, mask)
    there = mask.gather(-1, order)
    ordered = scores.gather(-1, order)
    left = masked_logsumexp(ordered[..., None, :].expand(*ordered.shape, ordered.shape[-1]), _from_row_on(there))
    return torch.where(there, left - ordered, 0.0).sum(-1)


def pro_terms(scores: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """log [exp(s_k / T_kk) + sum over i > k of exp(s_i / T_ki)] - s_k / T_kk for each place k but the last (arXiv 2306.17492).

    Answers are in the order of falling labels, equal ones in the order of the list. 1 / T_ki = label_k - label_i, and 1 / T_kk is
    the largest of them. The repository adds 1e-10 inside of the logarithm.

    Args:
        scores: (..., K) with gradients: log-probabilities per token.
        labels: (..., K).
        mask: (..., K) bool; values outside it are ignored.

    Returns:
        (..., K): 0 at a list's last place and in padding.
    """
    order = best_first(labels, mask)
    there = mask.gather(-1, order)
    ordered, sorted_labels = (torch.where(there, values.gather(-1, order), 0.0) for values in (scores, labels))
    competing = _from_row_on(there)
    gaps = torch.where(competing, differences(sorted_labels), 0.0).to(scores.dtype)
    own = torch.eye(mask.shape[-1], dtype=torch.bool, device=mask.device)
    exponents = ordered[..., None, :] * torch.where(own, gaps.amax(-1, keepdim=True), gaps)
    terms = masked_logsumexp(exponents, competing) - exponents.diagonal(dim1=-2, dim2=-1)
    return torch.where(there, terms, 0.0)


def _from_row_on(there: torch.Tensor) -> torch.Tensor:
    """(..., K, K) bool: the answers from place k (the row) to the end."""
    pairs = there[..., :, None] & there[..., None, :]
    return pairs.triu()
