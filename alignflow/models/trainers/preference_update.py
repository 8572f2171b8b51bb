"""One optimizer step on answers that were compared: micro-batches of pairs or single answers, with a global denominator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from alignflow.data.configs.rollouts import ImportanceOptions
from alignflow.models.engines import group
from alignflow.models.engines.base import Engine
from alignflow.models.in_step import passes_in_step
from alignflow.models.losses.base import LossOutput, OfflineBatch, Role
from alignflow.models.losses.importance import Importance, importance
from alignflow.models.losses.online_preference import OrderedBatch
from alignflow.models.policy import Policy
from alignflow.models.sequences import chosen_tokens, row_numbers
from alignflow.models.trainers.compared_answers import ComparedAnswers
from alignflow.models.trainers.figures import sums_of_all
from alignflow.models.trainers.live_models import check_finite

ComparedLoss = Callable[[Any], LossOutput]
"""A method's loss with its options bound: of an `OrderedBatch`, or of own answers with the probability that each wins as score."""


@dataclass(frozen=True)
class PreferenceLearner:
    """Takes optimizer steps.

    Attributes:
        policy: The model that is aligned.
        engine: Its engine.
        loss: The method's loss.
        ordered: Whether it uses pairs; otherwise only the first answer of each pair.
        soft: Whether a pair's P(chosen is better) reaches the loss.
        temperature: Temperature of the log-probabilities.
        importance: For a policy gradient, how to weight answers that another engine drew; None for losses of pairs, which do not depend on
            sampling probabilities.
    """

    policy: Policy
    engine: Engine
    loss: ComparedLoss
    ordered: bool
    soft: bool
    temperature: float
    importance: ImportanceOptions | None = None


def preference_step(
    learner: PreferenceLearner, answers: ComparedAnswers, rate: float, where: str
) -> dict[str, tuple[float, float]]:
    """One step on the pairs to train on; returns name -> (sum, count) of its figures over all processes.

    Without a pair in any process nothing happens, and nothing is returned. The loss is divided by the pairs of all processes.

    Raises:
        TrainingError: a loss or a gradient is not finite.
    """
    kept = answers.kept
    total = int(group.sum_all({"pairs": float(len(kept))})["pairs"])
    if not total:
        return {}
    units = kept or [0]  # a process without any runs a pass that does not count
    members = [answers.pairs[unit].tolist()[: 2 if learner.ordered else 1] for unit in units]
    lengths = [sum(len(answers.rollouts.rows[row]) for row in rows) for rows in members]
    drawn = _drawn_elsewhere(learner.importance, answers)
    sums: dict[str, list[float]] = {}
    for places, counts in passes_in_step(lengths, learner.policy.runtime.micro_batch_tokens):
        counted = counts and bool(kept)
        batch = _batch(
            learner, answers, drawn, [units[place] for place in places], [members[place] for place in places]
        )
        found = learner.loss(batch)
        learner.engine.backward(found.loss.sum() * (counted / total))
        if not counted:
            places = []
        for name, values in {"loss": found.loss.detach(), **found.metrics}.items():
            pair = sums.setdefault(name, [0.0, 0.0])
            if places:
                pair[0] += float(values.double().sum())
                pair[1] += len(values)
    flat = group.sum_all({f"{place}:{name}": pair[place] for name, pair in sums.items() for place in (0, 1)})
    result = {name: (flat[f"0:{name}"], flat[f"1:{name}"]) for name in sums}
    norm = learner.engine.step(rate)
    check_finite(result["loss"][0], norm, where)
    if drawn is not None:
        outside = (float(drawn.outside.double().sum()), float(len(drawn.outside)))
        result |= sums_of_all({"sampling/importance_sampling_clipped": outside})
    return result | {"grad_norm": (norm, 1.0)}


def _drawn_elsewhere(options: ImportanceOptions | None, answers: ComparedAnswers) -> Importance | None:
    """Importance weights of the policy's tokens from the engine's log-probabilities; None if it gave none, or the loss needs none."""
    behaviour = answers.rollouts.behaviour_logps
    if options is None or behaviour is None:
        return None
    rows = row_numbers(answers.rollouts.lengths[: answers.own])
    own = slice(len(rows))
    return importance(answers.logps[own], behaviour[own], rows, torch.ones(len(rows), dtype=torch.bool), options)


def _batch(
    learner: PreferenceLearner,
    answers: ComparedAnswers,
    drawn: Importance | None,
    units: Sequence[int],
    members: Sequence[Sequence[int]],
) -> OrderedBatch | OfflineBatch:
    """The units' answers with the current policy's statistics."""
    rows = [row for unit in members for row in unit]
    statistics = learner.policy.token_statistics(
        [answers.rollouts.rows[row] for row in rows], ("logps",), temperature=learner.temperature
    )
    device, places = learner.policy.device, torch.tensor(rows)
    own = chosen_tokens(answers.rollouts.lengths, places)
    ref_logps = answers.ref_logps[own].to(device)
    weights = {} if drawn is None else {"importance_weights": drawn.weights[own].to(device)}
    tokens, per_unit = answers.rollouts.lengths[places], 2 if learner.ordered else 1
    sums = torch.zeros(len(rows), dtype=ref_logps.dtype, device=device)
    # A unit that does not count may have no verdict, and 0 times NaN would be NaN.
    probability = answers.log_odds[torch.tensor(units)].sigmoid().nan_to_num(0.5).to(device, torch.float32)
    probability = probability.repeat_interleave(per_unit)
    batch = OfflineBatch(
        torch.arange(len(units), device=device).repeat_interleave(per_unit),
        torch.tensor([Role.CHOSEN, Role.REJECTED][:per_unit] * len(units), device=device),
        statistics.sums(),
        tokens.to(device),
        answers.rollouts.ended[places].to(device),
        sums.index_add(0, row_numbers(tokens).to(device), ref_logps),
        probability if learner.soft else torch.full_like(probability, float("nan")),
        {"logps": statistics.logps, "reference_logps": ref_logps, **weights},
        score=None if learner.ordered else probability,
    )
    if not learner.ordered:
        return batch
    pairs = batch.pairs()
    theirs = torch.tensor([unit[0] >= answers.own for unit in members], device=device)
    return OrderedBatch(pairs, torch.where(theirs, pairs.chosen.logps, pairs.rejected.logps))
