"""Cases of self-play: losses of win rates, and the choice among a policy's own answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from alignflow.data.configs.iterated import DNOOptions, SPPOOptions
from alignflow.data.selecting import accept_probabilities
from alignflow.models.cases.base import Arguments, Caller, Outputs, Tensors, token_statistics
from alignflow.models.judges.best_and_worst import extreme_places
from alignflow.models.losses.base import LossOutput, PairBatch, pairs_of_tokens
from alignflow.models.losses.self_play import dno, sppo, sppo_squares


def _pairs(inputs: Tensors, policy: tuple[str, str], reference: tuple[str, str], masks: tuple[str, str]) -> PairBatch:
    policies, references, own = ([inputs[name] for name in names] for names in (policy, reference, masks))
    return pairs_of_tokens((policies[0], policies[1]), (own[0], own[1]), (references[0], references[1]))


def _rated(batch: PairBatch, rates: tuple[torch.Tensor, torch.Tensor]) -> PairBatch:
    return PairBatch(replace(batch.chosen, score=rates[0]), replace(batch.rejected, score=rates[1]))


def _of_sides(inputs: Tensors) -> PairBatch:
    return _pairs(
        inputs, ("policy_chosen", "policy_rejected"), ("ref_chosen", "ref_rejected"), ("chosen_mask", "rejected_mask")
    )


def _sppo_output(output: LossOutput) -> Outputs:
    shown = output.metrics
    return {
        "loss": output.loss.mean(),
        "per_example": output.loss,
        "chosen_rewards": shown["rewards/chosen"],
        "rejected_rewards": shown["rewards/rejected"],
        "accuracy": shown["rewards/accuracies"].double().mean(),
        "margin": shown["rewards/margins"].mean(),
    }


def _sppo_pair(inputs: Tensors, arguments: Arguments) -> Outputs:
    batch = _rated(_of_sides(inputs), (inputs["chosen_winrate"], inputs["rejected_winrate"]))
    return _sppo_output(sppo(batch, SPPOOptions(eta=1 / arguments.take(0.001, "beta"))))


def _sppo_hard(inputs: Tensors, arguments: Arguments) -> Outputs:
    return _sppo_output(sppo(_of_sides(inputs), SPPOOptions(eta=1 / arguments.take(0.001, "beta"), targets="hard")))


def _sppo(inputs: Tensors, arguments: Arguments) -> Outputs:
    sums = [token_statistics(inputs[name], inputs["mask"]).sums() for name in ("policy_logps", "old_logps")]
    ratio = sums[0] - sums[1].detach()
    loss = sppo_squares(ratio, inputs["winrates"], arguments.take(1000.0, "eta"))
    return {"loss": loss.mean(), "per_example": loss, "log_ratio": ratio}


def _dno(inputs: Tensors, arguments: Arguments) -> Outputs:
    batch = _pairs(inputs, ("policy_1", "policy_2"), ("old_1", "old_2"), ("mask_1", "mask_2"))
    output = dno(_rated(batch, (inputs["r1"], inputs["r2"])), DNOOptions(eta=arguments.take(0.1, "eta")))
    return {"loss": output.loss.mean(), "per_example": output.loss, "target": output.metrics["targets"]}


def _self_rewarding(inputs: Tensors, arguments: Arguments) -> Outputs:
    scores = inputs["scores"].tolist()
    found = [extreme_places(row) for row in scores]
    return {
        "mean_scores": scores,  # one reply each
        "chosen": [0 if places is None else places[0] for places in found],
        "rejected": [0 if places is None else places[1] for places in found],
        "valid": [int(places is not None) for places in found],
    }


SELF_PLAY: Mapping[str, Caller] = {
    "dno_loss": _dno,
    "rso_accept_prob": lambda inputs, arguments: {
        "value": [accept_probabilities(row, arguments.take(0.5, "beta")) for row in inputs["rewards"].tolist()]
    },
    "self_rewarding_pairs": _self_rewarding,
    "sppo_hard_loss": _sppo_hard,
    "sppo_loss": _sppo,
    "sppo_pair_loss": _sppo_pair,
}
"""Name in a case -> function that calls ours."""
