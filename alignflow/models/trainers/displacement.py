"""Likelihood displacement: whether a training made the wanted answers less likely, although its loss fell."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from alignflow.data.run import Run
from alignflow.models.stored_rows import Picked
from alignflow.models.trainers.answer_batches import Answers
from alignflow.models.trainers.own_reference import answer_sums


@torch.no_grad()
def wanted_logps(side: Answers, run: Run) -> float | None:
    """Mean log-probability of the wanted answers' tokens under the current policy, nats per token; None without such answers.

    Every process must call it.
    """
    places = np.flatnonzero(side.rows.wanted)
    tokens = int(side.rows.answer_tokens[places].sum())
    if not tokens:
        return None
    sums = answer_sums(side.policy, Picked(places, side.rows.answers), side.rows.answer_lengths[places].tolist(), run)
    return float(sums.double().sum()) / tokens


def warn_of_displacement(
    before: float | None, side: Answers, metrics: Mapping[str, float | None], limit: float, run: Run
) -> None:
    """Warn if the held-out wanted answers lost more than `limit` nats per token from `before` to the end of the training.

    Args:
        before: `wanted_logps` of the held-out rows before the training.
        side: The held-out rows.
        metrics: The training's metrics, for other figures in the warning.
        limit: `align.max_logps_drop`.
        run: Gets the warning.
    """
    after = wanted_logps(side, run) if before is not None else None
    if before is None or after is None or before - after <= limit:
        return
    others = (
        f"; logps/rejected is {rejected:.4g}" if (rejected := metrics.get("eval_logps/rejected")) is not None else ""
    )
    run.warn(
        f"held-out wanted answers lost {before - after:.3g} nats per token (from {before:.3g} to {after:.3g}){others}: "
        "the policy has become less likely to write them (likelihood displacement); set a smaller align.learning_rate, a larger beta, "
        "or align.sft_coefficient if the method has it"
    )
