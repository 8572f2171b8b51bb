"""From one score per answer to one reward per token: normalisation, clip, missing EOS, KL penalty and its coefficient."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from alignflow.data.configs.online import OnlineOptions
from alignflow.models.losses.ppo import KL_ESTIMATORS, masked_difference

LARGEST_CHANGE = 0.2


@dataclass(frozen=True)
class ScoreScale:
    """Mean and deviation of the reference's scores, from the first update; `(score - mean) / deviation`."""

    mean: float = 0.0
    deviation: float = 1.0


def shaped_scores(scores: torch.Tensor, ended: torch.Tensor, scale: ScoreScale, options: OnlineOptions) -> torch.Tensor:
    """(rows,) scores as they enter the reward: normalised, then clipped to +-score_clip, then minus the missing-EOS penalty.

    Args:
        scores: (rows,) fp32 raw scores.
        ended: (rows,) bool: the answer has its EOS; one that was cut loses `missing_eos_penalty`.
        scale: The mean and deviation to normalise by.
    """
    shaped = (scores - scale.mean) / scale.deviation
    if options.score_clip is not None:
        shaped = shaped.clamp(-options.score_clip, options.score_clip)
    if options.missing_eos_penalty is not None:
        shaped = torch.where(ended, shaped, shaped - options.missing_eos_penalty)
    return shaped


def overlong_penalties(lengths: torch.Tensor, options: OnlineOptions) -> torch.Tensor | None:
    """(rows,) fp32 to subtract from the scores of long answers (Yu et al. 2025, DAPO, arXiv 2503.14476, equation 13); None if that is off.

    0 up to `response_length` minus the buffer, `overlong_penalty` at `response_length`, linear in between. The buffer is the share
    `overlong_buffer` of `response_length`, at least one token.

    Args:
        lengths: (rows,) tokens of each answer, stop token included.
    """
    if not options.overlong_buffer:
        return None
    buffer = max(1, round(options.overlong_buffer * options.response_length))
    over = lengths - (options.response_length - buffer)
    return options.overlong_penalty * (over.float() / buffer).clamp(0, 1)


def kl_penalised_rewards(
    scores: torch.Tensor,
    logps: torch.Tensor,
    ref_logps: torch.Tensor,
    mask: torch.Tensor,
    kl_coef: float,
    estimator: str = "k1",
) -> torch.Tensor:
    """-kl_coef KL_t per token, plus the score on each row's last real token (Ziegler et al. 2019, arXiv 1909.08593, equation 2).

    Args:
        scores: (rows,).
        logps: (rows, time), by the policy that sampled.
        ref_logps: (rows, time), by the frozen reference, at the same temperature.
        mask: (rows, time); a row without tokens gets nothing.

    Returns:
        (rows, time), 0 outside of the mask.
    """
    mask = mask.bool()
    penalty = -kl_coef * KL_ESTIMATORS[estimator](masked_difference(logps, ref_logps, mask))
    rewards = torch.where(mask, penalty, torch.zeros_like(penalty))
    places = torch.arange(mask.shape[1], device=mask.device)
    last = torch.where(mask, places, -1).amax(1) if mask.shape[1] else places.new_full((len(mask),), -1)
    rows = (last >= 0).nonzero()[:, 0]
    rewards[rows, last[rows]] += scores[rows]
    return rewards


def adaptive_kl_coefficient(coefficient: float, observed: float, target: float, answers: int, horizon: int) -> float:
    """The next coefficient of a controller that steers the KL per answer to a target (Ziegler et al. 2019, section 2.2).

    coefficient * (1 + clip(observed / target - 1, -0.2, 0.2) * answers / horizon), KL in nats.
    """
    error = min(max(observed / target - 1, -LARGEST_CHANGE), LARGEST_CHANGE)
    return coefficient * (1 + error * answers / horizon)
