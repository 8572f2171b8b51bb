"""CRINGE and Pairwise CRINGE: compares each token of a negative answer with a probable alternative."""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from alignflow.data.configs.unpaired import CRINGEOptions, PairwiseCRINGEOptions
from alignflow.models.losses.base import LossOutput, OfflineBatch, PairBatch, at_least_fp32, pair_metrics
from alignflow.models.losses.binary_feedback import NAN, label_metrics, wanted


def token_terms(negative: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
    """-log(e^(s*) / (e^(s*) + e^s)) per token (Adolphs et al. 2022, "The CRINGE Loss", arXiv 2211.05826).

    s and s* are logits of the negative token and of the positive pick at the same place; a shift of both changes nothing, so
    log-probabilities can be used instead. Both get gradients.

    Args:
        negative: s, any shape.
        positive: s*, the same shape.
    """
    return -logsigmoid(at_least_fp32(positive) - at_least_fp32(negative))


def cringe(batch: OfflineBatch, options: CRINGEOptions) -> LossOutput:
    """NLL of the desirable answers plus alpha sum_t -log(e^(s*) / (e^(s*) + e^s)) of the undesirable ones.

    (Adolphs et al. 2022, "The CRINGE Loss", arXiv 2211.05826.) Sums over tokens, and for each class a mean over its answers. No reference.

    Args:
        batch: Answers with labels; of the undesirable ones' tokens `statistics["cringe_positive"]` (log-probability of the pick
            s*, with gradients) in addition to `logps`; and `step["undesirable"]`: the share of the whole optimizer step's answers that are
            undesirable, a scalar in [0, 1].
        options: alpha; top_k is for the picks.

    Returns:
        Loss (answers,), each class divided by its share, so that the sum over the step divided by all its answers is the sum of
        the two means. Metrics: `label_metrics` with the sums of log-probabilities as rewards; `nll` on desirable, `cringe` (without alpha)
        on undesirable answers, NaN on the others.
    """
    desirable, lp = wanted(batch), at_least_fp32(batch.logps)
    terms = answer_terms(batch)
    undesirable = batch.step["undesirable"].detach().to(lp)
    share = torch.where(desirable, 1 - undesirable, undesirable)
    loss = torch.where(desirable, -lp, options.alpha * terms) / torch.where(share > 0, share, torch.ones_like(share))
    nothing = torch.full_like(lp, NAN)
    shown = {"nll": torch.where(desirable, -lp, nothing), "cringe": torch.where(desirable, nothing, terms)}
    return LossOutput(loss, label_metrics(batch, lp)).showing(shown)


def answer_terms(answers: OfflineBatch) -> torch.Tensor:
    """(answers,): sums of `token_terms` over each answer's tokens, from the figures `logps` and `cringe_positive` per token."""
    return answers.sums(token_terms(answers.statistics["logps"], answers.statistics["cringe_positive"]))


def pairwise_cringe(batch: PairBatch, options: PairwiseCRINGEOptions) -> LossOutput:
    """g (NLL(w) + alpha Cringe(l)), g = s((b - M) / tau), M = lp(w) - lp(l), sums over tokens (Xu et al. 2023, arXiv 2312.16682).

    The gate g closes if a pair's margin exceeds b. It gets no gradient, or with `detach_gate` false it does, and then the
    loss falls with the margin itself. No reference. The gate's only source is the paper.

    Args:
        batch: Pairs; of the rejected answers' tokens `statistics["cringe_positive"]` in addition to `logps`.
        options: alpha, b and tau (nats), detach_gate; top_k is for the picks.

    Returns:
        Loss (pairs,). Metrics: TRL's with the sums of log-probabilities as rewards; `gate`, `nll`, `cringe` (without alpha).
    """
    lp_w, lp_l = batch.logps()
    gate = torch.sigmoid((options.b - (lp_w - lp_l)) / options.tau)
    if options.detach_gate:
        gate = gate.detach()
    terms = answer_terms(batch.rejected)
    output = LossOutput(gate * (-lp_w + options.alpha * terms), pair_metrics(batch, lp_w, lp_l))
    return output.showing({"gate": gate, "nll": -lp_w, "cringe": terms})
