"""Computes the training data of an update from sampled answers: scores, log-probabilities, rewards and advantages per token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from alignflow.data.configs.online import OnlineOptions
from alignflow.models.advantages import Advantages, RewardBatch, whiten
from alignflow.models.engines import group
from alignflow.models.losses.importance import Importance, importance
from alignflow.models.losses.ppo import KL_ESTIMATORS
from alignflow.models.rewards.combining import SAME
from alignflow.models.rewards.shaping import ScoreScale, kl_penalised_rewards, overlong_penalties, shaped_scores
from alignflow.models.rollouts import Rollouts
from alignflow.models.sequences import flattened, length_mask, padded, row_numbers
from alignflow.models.trainers.dynamic_sampling import Draws, draws_from, draws_of
from alignflow.models.trainers.sampling_mismatch import mismatch_sums


@dataclass(frozen=True)
class Scored:
    """Sampled answers with the models' statistics of them, in one process; no gradients.

    Attributes:
        rollouts: The answers.
        logps: (N,) fp32 by the policy as the update begins, at the sampling temperature, as training computes them.
        ref_logps: (N,) fp32 by the frozen reference.
        entropy: (N,) fp32, of the policy's distribution at each token, nats.
        values: (N,) fp32 before each token; None without a value model.
        scores: (rows,) fp64 weighted sums of the sources, NaN if there is none.
        parts: Name of a source, or `heldout_judge` -> (rows,) fp64, NaN if there is none.
        draws: Counts of what was sampled to get these; None: only these.
    """

    rollouts: Rollouts
    logps: torch.Tensor
    ref_logps: torch.Tensor
    entropy: torch.Tensor
    values: torch.Tensor | None
    scores: torch.Tensor
    parts: dict[str, torch.Tensor]
    draws: Draws | None = None

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything as tensors, for a state on disk."""
        found = {
            **self.rollouts.tensors(),
            "logps": self.logps,
            "ref_logps": self.ref_logps,
            "entropy": self.entropy,
            "scores": self.scores,
        }
        found |= {f"part/{name}": values for name, values in self.parts.items()}
        found |= {} if self.draws is None else {"draws": self.draws.tensor()}
        return found if self.values is None else {**found, "values": self.values}

    @staticmethod
    def from_tensors(tensors: Mapping[str, torch.Tensor], names: list[str]) -> Scored:
        """What `tensors` described; `names`: the parts, in their order."""
        return Scored(
            Rollouts.from_tensors(tensors),
            tensors["logps"],
            tensors["ref_logps"],
            tensors["entropy"],
            tensors.get("values"),
            tensors["scores"],
            {name: tensors[f"part/{name}"] for name in names},
            draws_from(tensors),
        )


@dataclass(frozen=True)
class Experience:
    """The training data of an update, flat per token, in one process.

    Attributes:
        scored: The answers.
        mask: (N,) bool: tokens that have a loss: those of answers with a score, and with `mask_truncated_completions` with an end.
        advantages: (N,) fp32.
        returns: (N,) fp32; None without a value model.
        kl_coef: The coefficient of this update's KL penalty, in the rewards or in the loss.
        importance: Importance weights from the engine's log-probabilities; None if it gives none.
    """

    scored: Scored
    mask: torch.Tensor
    advantages: torch.Tensor
    returns: torch.Tensor | None
    kl_coef: float
    _rewards: torch.Tensor  # (rows, time), before whitening
    importance: Importance | None = None


def as_column(scores: list[float | None]) -> torch.Tensor:
    """(rows,) fp64, NaN for None."""
    return torch.tensor([float("nan") if score is None else score for score in scores], dtype=torch.float64)


def score_scale(scores: torch.Tensor, mode: str) -> ScoreScale:
    """Mean and deviation (n - 1) of scores over all processes, as `mode` (off, mean, mean_std) uses them; without NaN.

    Scores that differ only by rounding have the deviation 1.
    """
    if mode == "off":
        return ScoreScale()
    known = scores[~scores.isnan()]
    sums = group.sum_all({"count": float(len(known)), "sum": float(known.sum())})
    mean = sums["sum"] / max(sums["count"], 1)
    if mode == "mean":
        return ScoreScale(mean)
    squares = group.sum_all({"squares": float((known - mean).square().sum())})["squares"]
    deviation = (squares / max(sums["count"] - 1, 1)) ** 0.5
    return ScoreScale(mean, deviation if deviation > SAME * abs(mean) else 1.0)


def make_experience(
    scored: Scored, estimator: Any, options: OnlineOptions, kl_coef: float, scale: ScoreScale
) -> Experience:
    """Rewards per token, then advantages by the method's estimator, whose sums run over all processes.

    Each `num_generations` answers in a row are a group.
    """
    rollouts, lengths = scored.rollouts, scored.rollouts.lengths
    known = ~scored.scores.isnan()
    mask = length_mask(lengths) & known[:, None]
    scores = shaped_scores(torch.nan_to_num(scored.scores).float(), rollouts.ended, scale, options)
    if (overlong := overlong_penalties(lengths, options)) is not None:
        scores = scores - overlong
    logps, ref_logps = padded(scored.logps, lengths), padded(scored.ref_logps, lengths)
    coefficient = kl_coef if options.kl_in == "reward" else 0.0
    rewards = kl_penalised_rewards(scores, logps, ref_logps, mask, coefficient, options.kl_estimator)
    shown = whiten(rewards, mask, shift_mean=False) if options.whiten_rewards else rewards
    values = None if scored.values is None else padded(scored.values, lengths)
    groups = torch.arange(len(lengths)) // options.num_generations
    found: Advantages = estimator(RewardBatch(shown, values, mask, groups), options)
    returns = None if found.returns is None else flattened(found.returns, lengths)
    learnt = mask & rollouts.ended[:, None] if options.mask_truncated_completions else mask
    flat, behaviour = flattened(learnt, lengths), rollouts.behaviour_logps
    seen = None if behaviour is None else importance(scored.logps, behaviour, row_numbers(lengths), flat, options)
    return Experience(scored, flat, flattened(found.advantages, lengths), returns, kl_coef, rewards, seen)


def experience_sums(
    experience: Experience, repetitions: torch.Tensor, options: OnlineOptions
) -> dict[str, tuple[float, float]]:
    """Name -> (sum, count) in this process, of the figures of an update's answers by TRL's names; see `docs/methods/policy_gradients.md`."""
    scored, lengths = experience.scored, experience.scored.rollouts.lengths
    mask = length_mask(lengths)
    logratio = padded(scored.logps - scored.ref_logps, lengths)
    known = ~scored.scores.isnan()
    shaped = experience._rewards.sum(1)[known]
    penalty = -experience.kl_coef * torch.where(
        mask, KL_ESTIMATORS[options.kl_estimator](logratio), torch.zeros_like(logratio)
    ).sum(1)
    if options.kl_in == "loss":
        shaped = (
            shaped + penalty[known]
        )  # the objective is the same, whether the penalty is in the rewards or in the loss
    columns = {
        "objective/kl": logratio.sum(1),
        "objective/entropy": -padded(scored.logps, lengths).sum(1),
        "objective/non_score_reward": penalty,
        "objective/rlhf_reward": shaped,
        "completions/mean_length": lengths.double(),
        "completions/stop_rate": scored.rollouts.ended.double(),
        "completions/repetition": repetitions,
        "objective/unscored": (~known).double(),
    }
    sums = {name: (float(values.double().sum()), float(len(values))) for name, values in columns.items()}
    for name, values in {
        "objective/scores": scored.scores,
        **{_part_name(name): part for name, part in scored.parts.items()},
    }.items():
        given = values[~values.isnan()]
        sums[name] = (float(given.sum()), float(len(given)))
        sums[f"{name}/square"] = (float(given.square().sum()), float(len(given)))
    sums["policy/entropy_avg"] = (float(scored.entropy.double().sum()), float(len(scored.entropy)))
    if experience.returns is not None and scored.values is not None:
        returns, error = (
            experience.returns[experience.mask].double(),
            (experience.returns - scored.values)[experience.mask].double(),
        )
        for name, values in (("value/return", returns), ("value/error", error)):
            sums[name] = (float(values.sum()), float(len(values)))
            sums[f"{name}/square"] = (float(values.square().sum()), float(len(values)))
    if options.num_generations > 1:
        draws = scored.draws or draws_of([scored.scores], options.num_generations, 0)
        sums |= draws.sums(options.dynamic_sampling > 0)
    if experience.importance is not None:
        sums |= _mismatch(experience.importance, experience.mask)
    share = 1.0 / group.size()  # a total, not a mean: the parts of all processes add up to 1
    return sums | {
        "val/num_eos_tokens": (float(scored.rollouts.ended.sum()), share),
        "episodes": (float(len(lengths)), share),
    }


def _mismatch(found: Importance, mask: torch.Tensor) -> dict[str, tuple[float, float]]:
    """How the engine's probabilities differ from the trainer's, over the tokens that have a loss."""
    clipped = (float(found.outside[mask].double().sum()), float(mask.sum()))
    sums = mismatch_sums(found.differences[mask], found.ratios[mask])
    return sums | {"sampling/importance_sampling_clipped": clipped}


def _part_name(name: str) -> str:
    return f"objective/{name}" if name == HELDOUT else f"objective/scores/{name}"


HELDOUT = "heldout_judge"
