"""Rounds: what one of them may have otherwise is a step with its round."""

import pytest
from pydantic import ValidationError

from alignflow.data.configs.iterated import RoundsConfig


def test_overrides_name_a_step_and_its_round():
    assert RoundsConfig(overrides={"label.2": {"judge": {"name": "rubric"}}}).overrides["label.2"]


@pytest.mark.parametrize("name", ["label", "prepare.2", "label.0", "label.x"])
def test_anything_else_is_refused(name):
    with pytest.raises(ValidationError, match="is no step of a round"):
        RoundsConfig(overrides={name: {}})
