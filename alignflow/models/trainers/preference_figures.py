"""Figures of an update that compares answers, by TRL's names: sums over this process's answers and pairs."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from alignflow.models.engines import group
from alignflow.models.sequences import padded
from alignflow.models.trainers.compared_answers import REASONS, ComparedAnswers
from alignflow.models.trainers.experience import HELDOUT
from alignflow.models.trainers.figures import Sums
from alignflow.models.trainers.online_loop import sums_of_answers
from alignflow.models.trainers.sampling_mismatch import sampling_mismatch


def comparison_sums(
    answers: ComparedAnswers, repetitions: Sequence[float], beta: float, ordered: bool
) -> dict[str, tuple[float, float]]:
    """Name -> (sum, count) in this process; see `docs/methods/online_preference.md` for the names.

    Args:
        answers: The update's answers.
        repetitions: Repetition of each of the policy's answers.
        beta: Weight of the KL in `objective/non_score_reward`.
        ordered: Whether the better answer is first in a pair, so that there is a margin.
    """
    own, lengths = answers.own, answers.rollouts.lengths
    kl = padded(answers.logps - answers.ref_logps, lengths).sum(1)[:own].double()
    columns: dict[str, Sequence[float] | torch.Tensor] = {
        "objective/kl": kl,
        "objective/entropy": -padded(answers.logps, lengths).sum(1)[:own],
        "objective/non_score_reward": -beta * kl,
        "val/contain_eos_token": answers.rollouts.ended[:own].double(),
        "completions/mean_length": lengths[:own].double(),
        "completions/stop_rate": answers.rollouts.ended[:own].double(),
        "completions/repetition": repetitions,
        "policy/entropy_avg": answers.entropy[: int(lengths[:own].sum())],
        "pairs/probability": answers.log_odds.sigmoid(),
        "pairs/kept": (answers.reason == 0).double(),
        **{
            f"pairs/{reason.replace(' ', '_')}": (answers.reason == number).double()
            for number, reason in enumerate(REASONS)
            if reason
        },
    }
    if "score" in answers.scores:
        score = answers.scores["score"]
        gap = score[answers.pairs[:, 0]] - score[answers.pairs[:, 1]]
        columns["objective/rlhf_reward"] = score[:own] - beta * kl
        columns["objective/scores_margin"] = gap[answers.reason == 0] if ordered else gap
    sums = sums_of_answers(columns)
    if answers.rollouts.behaviour_logps is not None:
        drawn = slice(int(lengths[:own].sum()))
        sums |= sampling_mismatch(answers.logps[drawn], answers.rollouts.behaviour_logps[drawn])
    for name, values in answers.scores.items():
        sums |= _with_squares(_shown(name), values[:own])
    share = 1.0 / group.size()  # a total, not a mean: the parts of all processes add up to 1
    return sums | {"episodes": (float(own), share)}


def _with_squares(name: str, values: torch.Tensor) -> Sums:
    return sums_of_answers({name: values, f"{name}/square": values.square()})


def _shown(name: str) -> str:
    if name == HELDOUT:
        return f"objective/{name}"
    return "objective/scores" if name == "score" else f"objective/{name}"
