"""Differences between the sampling engine's and the trainer's probabilities, by TRL's names."""

from __future__ import annotations

import torch

from alignflow.models.engines import group


def sampling_mismatch(logps: torch.Tensor, behaviour_logps: torch.Tensor) -> dict[str, tuple[float, float]]:
    """Name -> (sum, count) in this process, of the tokens that an engine drew with these weights.

    Args:
        logps: (N,) fp32 log-probabilities by the trainer.
        behaviour_logps: (N,) fp32, as the engine drew the tokens.
    """
    logratios = logps - behaviour_logps
    return mismatch_sums(logratios.abs(), logratios.exp())


def mismatch_sums(differences: torch.Tensor, ratios: torch.Tensor) -> dict[str, tuple[float, float]]:
    """Name -> (sum, count) in this process; the largest and the smallest are over all processes. Every process must call it.

    Args:
        differences: (N,) absolute differences of the log-probabilities, nats.
        ratios: (N,) the trainer's over the engine's probability.
    """
    columns = {
        "sampling/sampling_logp_difference/mean": differences,
        "sampling/importance_sampling_ratio/mean": ratios,
    }
    sums = {name: (float(values.double().sum()), float(len(values))) for name, values in columns.items()}
    ends = {
        "sampling/sampling_logp_difference/max": (differences, max),
        "sampling/importance_sampling_ratio/max": (ratios, max),
        "sampling/importance_sampling_ratio/min": (ratios, min),
    }
    for name, (values, end) in ends.items():
        own = [end(values.tolist())] if len(values) else []
        known = [value for values_there in group.gather(own) for value in values_there]
        # The same in every process, so that the mean over processes is this value.
        sums[name] = (end(known), 1.0) if known else (0.0, 0.0)
    return sums
