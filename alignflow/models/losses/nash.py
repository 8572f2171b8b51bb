"""The policy gradient of Nash learning: an answer is weighted by its win rate against the opponent's, minus a KL penalty."""

from __future__ import annotations

from alignflow.data.configs.online_preference import NashOptions
from alignflow.models.losses.base import LossOutput, OfflineBatch, at_least_fp32


def nash_policy_gradient(batch: OfflineBatch, options: NashOptions) -> LossOutput:
    """-lp(y) sg(P - 1/2 - tau rho(y)), tau = beta (Munos et al. 2023, "Nash learning", arXiv 2312.00886, section 7).

    The weight takes no gradient; 1/2 is a baseline. With `kl_credit` token the log-ratio of a token weights only that token, as in
    TRL: -(P - 1/2) lp(y) + tau sum_t lp_t sg(rho_t). With tau 0 it is REINFORCE on P - 1/2.

    Args:
        batch: The policy's answers. `score`: (answers,) P(y beats the opponent's answer), in [0, 1]. `statistics`: `logps` and
            `reference_logps`, (N,) nats; `importance_weights`, (N,), factors of the tokens' gradients if another engine drew them.
        options: beta, kl_credit.

    Returns:
        Loss (answers,), whose value is not meaningful, and metrics by TRL's names: `loss/score` = (P - 1/2) lp(y), `loss/kl` = rho(y),
        `rewards/probabilities` = P, `rewards/accuracies`, `logps/chosen` = lp(y).
    """
    if batch.score is None:
        raise ValueError("this loss needs the probability that an answer wins: pass score")
    logps = at_least_fp32(batch.statistics["logps"])
    learned = logps * batch.statistics.get("importance_weights", 1.0)
    logratios = logps.detach() - at_least_fp32(batch.statistics["reference_logps"]).detach()
    total, kl = batch.sums(logps), batch.sums(logratios)
    preference = batch.score.to(total.dtype) - 0.5
    weighed = batch.sums(learned)
    penalty = weighed * kl if options.kl_credit == "sequence" else batch.sums(learned * logratios)
    loss = -(preference * weighed - options.beta * penalty)
    shown = {
        "loss/score": preference * total,
        "loss/kl": kl,
        "rewards/probabilities": batch.score,
        "rewards/accuracies": (batch.score > 0.5).to(total.dtype),
        "logps/chosen": total,
    }
    return LossOutput(loss).showing(shown)
