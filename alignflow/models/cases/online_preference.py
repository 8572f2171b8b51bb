"""Cases of methods that compare their own samples: Nash-MD, XPO, the mixture, the choice of a pair."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from alignflow.data.configs.online_preference import NashOptions, XPOOptions
from alignflow.data.configs.pairwise import DPOOptions
from alignflow.models.cases.base import Arguments, Caller, Outputs, Tensors
from alignflow.models.generation.mixture_generator import geometric_mixture
from alignflow.models.judges.comparing import selected
from alignflow.models.losses.base import answers_of_tokens, pairs_of_tokens
from alignflow.models.losses.dpo import dpo
from alignflow.models.losses.nash import nash_policy_gradient
from alignflow.models.losses.online_preference import OrderedBatch, xpo


def _nash_md_loss(inputs: Tensors, arguments: Arguments) -> Outputs:
    options = NashOptions(beta=arguments.take(0.1, "tau", "beta"), kl_credit=arguments.take("sequence", "kl_credit"))
    batch = answers_of_tokens(inputs["policy_logps"], inputs["mask"], inputs["ref_logps"], score=inputs["pref_prob"])
    output = nash_policy_gradient(batch, options)
    return {"loss": output.loss.mean(), "kl": output.metrics["loss/kl"], "score": output.metrics["loss/score"]}


def _xpo_loss(inputs: Tensors, arguments: Arguments) -> Outputs:
    beta, alpha = arguments.take(0.1, "beta"), arguments.take(1e-5, "alpha")
    pairs = pairs_of_tokens(
        (inputs["policy_chosen"], inputs["policy_rejected"]),
        (inputs["chosen_mask"], inputs["rejected_mask"]),
        (inputs["ref_chosen"], inputs["ref_rejected"]),
    )
    explored = answers_of_tokens(inputs["explore_logps"], inputs["explore_mask"])
    output = xpo(
        OrderedBatch(pairs, explored.logps), XPOOptions(alpha=alpha), partial(dpo, options=DPOOptions(beta=beta))
    )
    shown = output.metrics
    return {
        "loss": output.loss.mean(),
        "per_example": output.loss,
        "chosen_rewards": shown["rewards/chosen"],
        "rejected_rewards": shown["rewards/rejected"],
        "margin": shown["rewards/margins"].mean(),
        "accuracy": shown["rewards/accuracies"].double().mean(),
    }


def _online_pair_select(inputs: Tensors, arguments: Arguments) -> Outputs:
    winner, valid = selected(inputs["scores_1"] - inputs["scores_2"])
    return {"winner": winner, "valid": valid}


ONLINE_PREFERENCE: Mapping[str, Caller] = {
    "geometric_mixture": lambda inputs, arguments: {
        "value": geometric_mixture(
            inputs["policy_logits"], inputs["ref_logits"], arguments.take(0.5, "beta", "mixture_coef")
        )
    },
    "nash_md_loss": _nash_md_loss,
    "online_pair_select": _online_pair_select,
    "xpo_loss": _xpo_loss,
}
"""Name in a case -> function that calls ours."""
