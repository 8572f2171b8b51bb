"""Options of judges and rewards."""

import pytest
from pydantic import ValidationError

from alignflow.data.configs.options import LLMJudgeOptions, NoOptions, RubricOptions


def test_a_judge_must_be_able_to_tell_its_two_answers_apart():
    assert LLMJudgeOptions(options=("1", "2")).options == ("1", "2")
    with pytest.raises(ValidationError, match="must differ"):
        LLMJudgeOptions(options=("A", " A "))


def test_what_has_no_options_takes_none():
    with pytest.raises(ValidationError):
        NoOptions(beta=1)
    with pytest.raises(ValidationError):
        RubricOptions(temperature=0.0)
