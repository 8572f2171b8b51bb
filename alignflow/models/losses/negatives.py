"""Losses that lower an answer's probability: NPO, which forgets it, and D2O, which compares it with samples of the model."""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from alignflow.data.configs.unpaired import D2OOptions, NPOOptions
from alignflow.models.losses.base import LossOutput, OfflineBatch, Role, at_least_fp32
from alignflow.models.losses.binary_feedback import NAN, label_metrics, wanted


def npo(batch: OfflineBatch, options: NPOOptions) -> LossOutput:
    """-(2 / beta) log s(-beta rho), a mean over undesirable answers, plus retain_weight times a retain term of the others.

    (Zhang et al. 2024, "Negative Preference Optimization", arXiv 2404.05868.)
    Log-ratios are sums over tokens. At the reference an undesirable answer has (2 / beta) ln 2. As beta goes to 0 the gradient
    goes to that of lp (gradient ascent on its NLL); the weight of that gradient is 2 s(beta rho), at most 2. The retain
    term is the NLL, or the KL to the reference. The paper has such a KL; its direction, KL(reference || policy) at each token, is a
    choice of alignflow, which was compared with no code of the authors. It is 0 at the reference, and no gradient reaches the reference.

    Args:
        batch: Answers with labels, reference sums, and `step["undesirable"]`: the share, in (0, 1], of the whole optimizer step's
            answers that are undesirable, a scalar. For `retain="kl"` also `statistics["forward_kl"]`, (N,) nats.
        options: beta (1/nats), retain, retain_weight.

    Returns:
        Loss (answers,): 0 for desirable answers; that of the others is divided by their share, so that the sum over the step
        divided by all its answers is the mean over those to forget. `token_loss` (answers,): retain_weight times
        a desirable answer's NLL or KL, to be divided by the desirable answers' tokens of the step; None where `retain` is none.
        Metrics: `label_metrics`, on undesirable answers `gradient_weight`, and with `retain="kl"` on desirable ones `retain_kl`, nats per
        token.
    """
    rho, retained = batch.logratios(), wanted(batch)
    zero = torch.zeros_like(rho)
    forgetting = -2 / options.beta * logsigmoid(-options.beta * rho)
    loss = torch.where(retained, zero, forgetting / _share(batch.step["undesirable"], rho))
    nan, held, shown = torch.full_like(rho, NAN), None, {}
    if options.retain == "nll":
        held = options.retain_weight * torch.where(retained, -at_least_fp32(batch.logps), zero)
    elif options.retain == "kl":
        kl = _retained_kl(batch, retained)
        held, shown = options.retain_weight * kl, {"retain_kl": torch.where(retained, kl / batch.lengths(), nan)}
    shown["gradient_weight"] = torch.where(retained, nan, 2 * torch.sigmoid(options.beta * rho))
    return LossOutput(loss, label_metrics(batch, options.beta * rho), held).showing(shown)


def _retained_kl(batch: OfflineBatch, retained: torch.Tensor) -> torch.Tensor:
    """(answers,): sums of KL(reference || policy) over the tokens of retained answers; 0 for the others."""
    kl = at_least_fp32(batch.statistics["forward_kl"])
    return batch.sums(torch.where(retained[batch.owners()], kl, torch.zeros_like(kl)))


def d2o(batch: OfflineBatch, options: D2OOptions) -> LossOutput:
    """-log s((beta / K) sum_i rho(y_i) - alpha rho(y_l)), y_i samples of the model, y_l the negative answer.

    (Duan et al. 2024, "Negating Negatives", arXiv 2403.03419.)
    The samples are fixed texts: the gradient goes through their log-probabilities. At the reference the loss is ln 2. With one sample and
    alpha = beta it is DPO on (sample, negative). Its only source is the paper.

    Args:
        batch: Groups of one REJECTED and at least one OTHER answer, with reference sums; a group's number of samples is its K. The
            paper's two references are those that the two kinds of answers were scored by.
        options: beta and alpha (1/nats).

    Returns:
        Loss (groups,), by group number. Metrics: `rewards/chosen`: of the samples, with beta / K; `rewards/rejected`: of the negative, with
        alpha; `rewards/margins`, `rewards/accuracies` (a tie is not accurate), `logps/chosen` (a mean over samples), `logps/rejected`.

    Raises:
        ValueError: a group with another number of REJECTED answers than one, or without OTHER ones.
    """
    count, places = batch.groups()
    negative, sample = batch.role == Role.REJECTED, batch.role == Role.OTHER
    samples = torch.bincount(places[sample], minlength=count)
    if not bool((torch.bincount(places[negative], minlength=count) == 1).all()) or not bool((samples > 0).all()):
        raise ValueError("a group of D2O needs exactly one rejected answer, and at least one sample of the model")
    rho, lp = batch.logratios(), at_least_fp32(batch.logps)

    def total(values: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        return values.new_zeros(count).index_add(0, places[which], values[which])

    anchor = options.beta * total(rho, sample) / samples
    dispreferred = options.alpha * total(rho, negative)
    margins = anchor - dispreferred
    metrics = {
        "rewards/chosen": anchor,
        "rewards/rejected": dispreferred,
        "rewards/margins": margins,
        "rewards/accuracies": (margins > 0).to(rho),
        "logps/chosen": total(lp, sample) / samples,
        "logps/rejected": total(lp, negative),
    }
    return LossOutput(-logsigmoid(margins)).showing(metrics)


def _share(share: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A share of the step's answers as a divisor; 1 for a class without answers."""
    share = share.detach().to(like)
    return torch.where(share > 0, share, torch.ones_like(share))
