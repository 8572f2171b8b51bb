"""Options of token-level methods: the ends of ranges, and values that a method does not have are refused."""

import pytest
from pydantic import ValidationError

from alignflow.data.configs.token_level import BetaDPOOptions, GKDOptions, LDDPOOptions, TDPO2Options


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (LDDPOOptions, {"ld_alpha": 0.0}),
        (LDDPOOptions, {"ld_alpha": 1.0}),
        (GKDOptions, {"beta": 0.0}),
        (GKDOptions, {"beta": 1.0}),
        (TDPO2Options, {"alpha": 0.0}),
        (BetaDPOOptions, {"keep_fraction": 1.0, "alpha": 0.0}),
    ],
)
def test_the_ends_of_a_range_that_mean_something_are_allowed(kind, values):
    assert kind(**values).model_dump(include=set(values)) == values


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (LDDPOOptions, {"ld_alpha": 1.5}),
        (GKDOptions, {"beta": -0.1}),
        (GKDOptions, {"lmbda": 0.5}),
        (GKDOptions, {"temperature": 0.0}),
        (BetaDPOOptions, {"keep_fraction": 0.0}),
        (BetaDPOOptions, {"momentum": 1.0}),
        (TDPO2Options, {"beta": 0.0}),
    ],
)
def test_values_without_a_meaning_are_refused(kind, values):
    with pytest.raises(ValidationError):
        kind(**values)
