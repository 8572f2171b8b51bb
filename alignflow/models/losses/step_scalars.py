"""Statistics of a whole optimizer step for losses: one function per method, from the answers of the step to scalars and figures per row.

Each is `(answers, options, state, training) -> (figures, state)`. `answers` are those of all rows of the step, of all processes, in
their order, without gradients. `state` has `seed` and `step`, and the function's state between steps. `training` is False on
held-out rows, whose state is not kept, and whose log-probabilities are NaN (except those of answers to other prompts).
Figures are scalars, or have one number for each group.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from alignflow.data.configs.token_level import BetaDPOOptions
from alignflow.data.configs.unpaired import BCOOptions, CRINGEOptions, KTOOptions, NPOOptions
from alignflow.models.losses.base import OfflineBatch
from alignflow.models.losses.beta_dpo import GapAverages, gaps_of, step_of_gaps
from alignflow.models.losses.binary_feedback import bco_delta, kto_kl, wanted

Figures = dict[str, torch.Tensor]
State = Mapping[str, float]
CLASSES = ("desirable", "undesirable", "all")


def kto_step(answers: OfflineBatch, options: KTOOptions, state: State, training: bool) -> tuple[Figures, State]:
    """`kl`: z0 from answers to other prompts; those without one (NaN) do not count."""
    rho = answers.logratios()
    return {"kl": kto_kl(rho[~rho.isnan()])}, state


def bco_step(answers: OfflineBatch, options: BCOOptions, state: State, training: bool) -> tuple[Figures, State]:
    """`delta`; on held-out answers the last one of the training."""
    assert answers.label is not None
    known = (
        torch.tensor([state.get(f"mean/{name}", float("nan")) for name in CLASSES])
        if f"mean/{CLASSES[0]}" in state
        else None
    )
    rewards, label = options.beta * answers.logratios(), answers.label
    if not training:
        rewards, label = rewards[:0], label[:0]
    delta, means = bco_delta(rewards, label, known, options)
    return {"delta": delta}, {
        **state,
        **{f"mean/{name}": float(value) for name, value in zip(CLASSES, means, strict=True)},
    }


def share_step(
    answers: OfflineBatch, options: CRINGEOptions | NPOOptions, state: State, training: bool
) -> tuple[Figures, State]:
    """`undesirable`: the share of the answers that are not wanted."""
    return {"undesirable": 1 - wanted(answers).float().mean()}, state


def beta_dpo_step(
    answers: OfflineBatch, options: BetaDPOOptions, state: State, training: bool
) -> tuple[Figures, State]:
    """`beta`, and `weight` of each pair; on held-out pairs the option's beta, and no pair is filtered out."""
    if not training:
        return {"beta": torch.tensor(options.beta)}, state
    before = GapAverages(state.get("gap_mean", 0.0), state.get("gap_deviation", 0.0))
    seed = (int(state["seed"]) * 1_000_003 + int(state["step"])) % 2**63
    found = step_of_gaps(gaps_of(answers.pairs(), options), before, options, seed)
    figures = {"beta": found.beta.float(), "weight": found.weight.float()}
    return figures, {**state, "gap_mean": found.averages.mean, "gap_deviation": found.averages.deviation}
