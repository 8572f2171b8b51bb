"""Rules of choosing answers: a field that a rule does not read is refused."""

import pytest
from pydantic import ValidationError

from alignflow.data.configs.selecting import SelectConfig


@pytest.mark.parametrize(
    "wrong, text",
    [
        ({"rule": "best", "beta": 1.0}, "beta is not read"),
        ({"rule": "threshold", "minimum": 1.0, "n": 2}, "n is not read"),
        ({"rule": "rso", "minimum": 0.0}, "minimum is not read"),
        ({"rule": "threshold"}, "threshold needs minimum"),
    ],
)
def test_a_field_that_the_rule_does_not_read_is_refused(wrong, text):
    with pytest.raises(ValidationError, match=text):
        SelectConfig(**wrong)


def test_a_minimum_of_zero_is_a_limit():
    assert SelectConfig(rule="threshold", minimum=0.0).minimum == 0.0
