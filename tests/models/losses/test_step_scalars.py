"""Figures of a whole optimizer step."""

from types import SimpleNamespace

import pytest
import torch

from alignflow.data.configs.token_level import BetaDPOOptions
from alignflow.data.configs.unpaired import KTOOptions, NPOOptions
from alignflow.models.losses.step_scalars import beta_dpo_step, kto_step, share_step


@pytest.mark.parametrize(
    ("ratios", "kl"), [([1.0, 3.0], 2.0), ([-1.0, -3.0], 0.0), ([1.0, float("nan")], 1.0), ([float("nan")], 0.0)]
)
def test_ktos_kl_is_the_mean_over_answers_that_have_one_and_never_negative(ratios, kl):
    answers = SimpleNamespace(logratios=lambda: torch.tensor(ratios))
    figures, state = kto_step(answers, KTOOptions(), {"kept": 1.0}, True)
    assert float(figures["kl"]) == kl and state == {"kept": 1.0}


def test_the_share_of_answers_that_are_not_wanted():
    figures, _ = share_step(SimpleNamespace(label=torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0])), NPOOptions(), {}, True)
    assert float(figures["undesirable"]) == pytest.approx(0.6)


def test_on_held_out_pairs_beta_is_the_options_and_the_state_stays():
    state = {"gap_mean": 1.0}
    figures, left = beta_dpo_step(SimpleNamespace(), BetaDPOOptions(beta=0.25), state, False)
    assert float(figures["beta"]) == 0.25 and left is state and "weight" not in figures
