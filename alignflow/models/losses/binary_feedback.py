"""Losses over single answers with a label or a score: KTO, BCO, DRO-V; and their statistics of a whole optimizer step."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn.functional import logsigmoid

from alignflow.data.configs.pairwise import BetaOptions
from alignflow.data.configs.unpaired import BCOOptions, DROVOptions, KTOOptions
from alignflow.models.losses.base import LossOutput, OfflineBatch, at_least_fp32, ema_update

NAN = float("nan")


def kto(batch: OfflineBatch, options: KTOOptions) -> LossOutput:
    """lambda_D s(beta (z0 - rho)) for desirable, lambda_U s(beta (rho - z0)) for undesirable answers, s the sigmoid.

    (Ethayarajh et al. 2024, "KTO", arXiv 2402.01306.) The loss is the paper's lambda_y minus the value, which is not negative. z0 is `batch.step["kl"]` of
    `kto_kl` and gets no gradient. If policy and reference are the same model, z0 is 0 and the loss is half the weight.

    Args:
        batch: Answers with labels, reference sums, and z0 in `step`.
        options: beta (1/nats), both weights.

    Returns:
        Loss (answers,), and `label_metrics` of the rewards beta * rho, with `kl`: z0.
    """
    rho, desirable, z0 = batch.logratios(), wanted(batch), batch.step["kl"].detach()
    loss = torch.where(
        desirable,
        options.desirable_weight * torch.sigmoid(options.beta * (z0 - rho)),
        options.undesirable_weight * torch.sigmoid(options.beta * (rho - z0)),
    )
    metrics = label_metrics(batch, options.beta * rho)
    return LossOutput(loss, {**metrics, "kl": z0.to(loss.detach()).expand_as(loss)})


def kto_kl(logratios: torch.Tensor) -> torch.Tensor:
    """z0 = max(0, mean rho), a scalar without gradient: KTO's estimate of the KL to the reference, nats.

    The mean over all processes is taken first, then the maximum.

    Args:
        logratios: (answers,) rho of the whole optimizer step's mismatched pairs: each prompt with the answer of another
            prompt. An answer without tokens has 0 and counts. No answer at all: z0 is 0.
    """
    rho = at_least_fp32(logratios.detach())
    return (rho.sum() / max(len(rho), 1)).clamp(min=0)


def apo_zero_unpaired(batch: OfflineBatch, options: BetaOptions) -> LossOutput:
    """s(-beta rho) for desirable, s(beta rho) for undesirable answers: APO-zero without pairs, TRL's `apo_zero_unpaired`
    (D'Oosterlinck et al. 2024, arXiv 2408.06266).

    It is KTO with z0 = 0 and both weights 1. If policy and reference are the same model, the loss is 1/2.

    Args:
        batch: Answers with labels and reference sums.
        options: beta (1/nats).

    Returns:
        Loss (answers,), and `label_metrics` of the rewards beta * rho.
    """
    rewards = options.beta * batch.logratios()
    return LossOutput(torch.sigmoid(torch.where(wanted(batch), -rewards, rewards)), label_metrics(batch, rewards))


def bco(batch: OfflineBatch, options: BCOOptions) -> LossOutput:
    """-log s(r - delta) for desirable, -log s(delta - r) for undesirable answers, r = beta rho (Jung et al. 2024, arXiv 2404.04656).

    delta is `batch.step["delta"]` of `bco_delta` and gets no gradient. If policy and reference are the same model, delta is 0
    and the loss ln 2. The weights for undesirable answers of other prompts (the paper's density ratio) are not implemented.

    Args:
        batch: Answers with labels, reference sums, and delta in `step`.
        options: beta (1/nats); the rest is for `bco_delta`.

    Returns:
        Loss (answers,), and `label_metrics` of the rewards r, with `delta`.
    """
    rewards, delta = options.beta * batch.logratios(), batch.step["delta"].detach()
    distance = torch.where(wanted(batch), rewards - delta, delta - rewards)
    metrics = label_metrics(batch, rewards)
    return LossOutput(-logsigmoid(distance), {**metrics, "delta": delta.to(rewards.detach()).expand_as(rewards)})


def bco_delta(
    rewards: torch.Tensor, label: torch.Tensor, state: torch.Tensor | None, options: BCOOptions
) -> tuple[torch.Tensor, torch.Tensor]:
    """BCO's shift of rewards after a step, and the running means that it comes from; both without gradient.

    `balanced`: half of the sum of both classes' running means, as in the paper. `pooled`: that of all answers together, which
    differs if a class has more answers. A class without answers so far is skipped: delta is then the mean of the other one.

    Args:
        rewards: (answers,) beta * rho of the whole optimizer step, of all processes.
        label: (answers,) 1 for desirable, 0 for undesirable.
        state: (3,) running means of desirable, undesirable and all rewards, NaN if there were none; None at the first step.
        options: delta_kind, delta_momentum.

    Returns:
        delta, a scalar, and the new state (3,). A class without answers in this step keeps its mean.
    """
    rewards, desirable = at_least_fp32(rewards.detach()), label > 0.5
    means = torch.stack([_mean(rewards[which]) for which in (desirable, ~desirable, torch.ones_like(desirable))])
    old = torch.full_like(means, NAN) if state is None else state.to(means)
    moved = ema_update(old, means, options.delta_momentum)
    new = torch.where(means.isnan(), old, torch.where(old.isnan(), means, moved))
    parts = new[2:] if options.delta_kind == "pooled" else new[:2]
    seen = parts[~parts.isnan()]
    return seen.sum() / max(len(seen), 1), new


def _mean(values: torch.Tensor) -> torch.Tensor:
    return values.mean() if len(values) else values.new_tensor(NAN)


class DROTerms(NamedTuple):
    """The parts of DRO-V, each per answer or per token.

    Attributes:
        residual: r - V - tau rho; live in all three.
        joint: residual^2 / 2, the objective; its gradient is the true one of policy and values.
        policy: -lp (r - V) + tau rho^2 / 2; only the policy gets a gradient: that of `joint` divided by tau.
        value: residual^2 / 2; only the values get a gradient: that of `joint`.
    """

    residual: torch.Tensor
    joint: torch.Tensor
    policy: torch.Tensor
    value: torch.Tensor


def dro_v_terms(lp: torch.Tensor, rho: torch.Tensor, score: torch.Tensor, values: torch.Tensor, tau: float) -> DROTerms:
    """DRO-V's objective and the two parts that its algorithm takes gradients of (Richemond et al. 2024, arXiv 2405.19107, algorithm 1).

    Args:
        lp: The policy's sums of log-probabilities, nats; any shape, which all have.
        rho: lp minus the frozen reference's.
        score: r, without gradients.
        values: V, the value network's estimates of the score.
        tau: Strength of the pull to the reference.
    """
    score = score.detach()
    residual = score - values - tau * rho
    return DROTerms(
        residual,
        residual.square() / 2,
        -lp * (score - values.detach()) + tau / 2 * rho.square(),
        (score - values - tau * rho.detach()).square() / 2,
    )


def dro_v(batch: OfflineBatch, options: DROVOptions) -> LossOutput:
    """(r - V - tau rho)^2 / 2 for a score r and a value V of the prompt (Richemond et al. 2024, arXiv 2405.19107), sums over tokens.

    The loss has the objective's value. Its gradients are those of algorithm 1: for the values the true one, for the policy
    the true one divided by tau; neither goes through the other's part. `batch.statistics["values"]` are a value
    network's estimates (N,), at the state before each token of the answer, as `ValueModel.values_packed` gives them, with
    gradients. The first is at the prompt's last token; it alone is V, or with `value_per_token` each is, and the loss
    is a mean over the answer's tokens. An answer without tokens has V = 0.

    Args:
        batch: Answers with scores, reference sums and values; with `normalise_scores` also `step["score_mean"]` and
            `step["score_std"]`, those of the training set (`score_scale`).
        options: tau, normalise_scores, value_per_token.

    Returns:
        Loss (answers,). Metrics: `rewards`: tau * rho; `values`: V; `residuals`; `scores`: r as used; `logps`.

    Raises:
        ValueError: the batch has no scores.
    """
    if batch.score is None:
        raise ValueError("DRO-V learns from scores: pass a score for each answer")
    rho, lp, score = batch.logratios(), at_least_fp32(batch.logps), at_least_fp32(batch.score)
    if options.normalise_scores:
        score = (score - batch.step["score_mean"]) / batch.step["score_std"]
    estimates = at_least_fp32(batch.statistics["values"])
    if options.value_per_token:
        owners, share = batch.owners(), 1 / batch.lengths()
        of_tokens = dro_v_terms(lp[owners], rho[owners], score[owners], estimates, options.tau)
        terms = DROTerms(*(batch.sums(part) * share for part in of_tokens))
        values = batch.sums(estimates) * share
    else:
        values = _first_of_each(batch, estimates)
        terms = dro_v_terms(lp, rho, score, values, options.tau)
    metrics = {
        "rewards": options.tau * rho,
        "values": values,
        "residuals": terms.residual,
        "scores": score,
        "logps": lp,
    }
    return LossOutput(terms.value + (terms.policy - terms.policy.detach())).showing(metrics)


def score_scale(scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of the scores (answers,) of a training set, both scalars; the latter is 1 if all are equal."""
    scores = at_least_fp32(scores)
    deviation = scores.std(correction=0)
    return scores.mean(), torch.where(deviation > 0, deviation, torch.ones_like(deviation))


def _first_of_each(batch: OfflineBatch, values: torch.Tensor) -> torch.Tensor:
    """(answers,): the figure (N,) of each answer's first token; 0 for an answer without tokens."""
    if not len(values):
        return values.new_zeros(len(batch.tokens))
    starts = (batch.tokens.cumsum(0) - batch.tokens).clamp(max=len(values) - 1)
    return torch.where(batch.tokens > 0, values[starts], torch.zeros_like(values[starts]))


def wanted(batch: OfflineBatch) -> torch.Tensor:
    """(answers,) bool: whether an answer is desirable; raises ValueError for answers without labels."""
    if batch.label is None:
        raise ValueError("this loss learns from labels: pass a label for each answer")
    return batch.label > 0.5


def label_metrics(batch: OfflineBatch, rewards: torch.Tensor) -> dict[str, torch.Tensor]:
    """TRL's names for figures of desirable (`chosen`) and undesirable (`rejected`) answers, each (answers,).

    A metric of one class is NaN on the answers of the other class, so its mean is over its class.
    """
    with torch.no_grad():
        desirable = wanted(batch)
        found = {"rewards": rewards.detach(), "logps": at_least_fp32(batch.logps).detach()}
        sides = {"chosen": desirable, "rejected": ~desirable}
        return {
            f"{name}/{side}": torch.where(which, values, torch.full_like(values, NAN))
            for name, values in found.items()
            for side, which in sides.items()
        }
