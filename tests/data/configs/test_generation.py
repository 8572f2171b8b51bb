"""Configs of sampling, labelling and evaluation."""

import pytest
from pydantic import ValidationError

from alignflow.data.configs.generation import EvaluateConfig, SampleConfig


def test_an_evaluator_is_named_once():
    with pytest.raises(ValidationError, match="'kl' is there twice"):
        EvaluateConfig(evaluators=("kl", "win_rate", "kl"))
    assert EvaluateConfig(evaluators=("kl",)).evaluators == ("kl",)


@pytest.mark.parametrize(
    "change", [{"n": 0}, {"n": 65}, {"n": 1.0}, {"n": True}, {"temperature": float("nan")}, {"top_p": 0.0}]
)
def test_numbers_are_strict_and_bounded(change):
    with pytest.raises(ValidationError):
        SampleConfig(**change)
