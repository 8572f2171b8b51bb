"""The policy gradient of Nash learning: an answer counts by how often it beats the opponent's, less a KL penalty."""

from __future__ import annotations

from alignflow.data.configs.online_preference import NashOptions
from alignflow.models.losses.base import LossOutput, OfflineBatch, at_least_fp32


def nash_policy_gradient(batch: OfflineBatch, options: NashOptions) -> LossOutput:
    """-lp(y) sg(P - 1/2 - tau rho(y)), tau = beta (Munos et al. 2023, "Nash learning", arXiv 2312.00886, section 7).

    The weight takes no gradient; 1/2 is a baseline. With `kl_credit` token the log-ratio of a token weighs that token alone, as in
    TRL: -(P - 1/2) lp(y) + tau sum_t lp_t sg(rho_t). With tau 0 it is REINFORCE on P - 1/2.

    Args:
        batch: The policy's own answers. `score`: (answers,) P(y beats the opponent's answer), in [0, 1]. `statistics`: `logps` and
            `reference_logps`, (N,) nats; `importance_weights`, (N,), what a token's gradient is multiplied with where another engine drew it.
        options: beta, kl_credit.

    Returns:
        Loss (answers,), whose value means little, and metrics by TRL's names: `loss/score` = (P - 1/2) lp(y), `loss/kl` = rho(y),
        `rewards/probabilities` = P, `rewards/accuracies`, `logps/chosen` = lp(y).
    """
    if batch.score is None:
        raise ValueError("this loss takes the probability that an answer wins: give score")
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
