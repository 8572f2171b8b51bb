"""Configs of training."""

import pytest
from pydantic import ValidationError

from alignflow.data.configs.training import AlignConfig, RewardConfig, SFTConfig


@pytest.mark.parametrize("change", [{"load_best_model_at_end": True}, {"early_stopping_patience": 2}])
def test_the_best_step_needs_evaluations(change):
    with pytest.raises(ValidationError, match="needs eval_steps"):
        SFTConfig(**change)
    assert SFTConfig(**change, eval_steps=5)


def test_a_field_that_a_loss_of_the_reward_model_does_not_read_is_refused():
    with pytest.raises(ValidationError, match="the loss pointwise has no eval_accuracy"):
        RewardConfig(loss="pointwise", metric_for_best_model="eval_accuracy")


def test_a_field_that_became_an_option_says_where_it_went():
    with pytest.raises(ValidationError, match="align.options.beta|options"):
        AlignConfig.model_validate({"method": "dpo", "beta": 0.2})
