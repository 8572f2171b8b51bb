"""Options of token-level methods: every number has both bounds, and values that a method does not have are refused."""

import pytest
from pydantic import ValidationError

from alignflow.data.catalogue.token_methods import TOKEN_METHODS
from alignflow.data.configs.bounds import bounds_of
from alignflow.data.configs.token_level import BetaDPOOptions, GKDOptions, LDDPOOptions, TDPO2Options


@pytest.mark.parametrize("name", TOKEN_METHODS)
def test_every_number_has_a_least_and_a_largest_value(name):
    for field in TOKEN_METHODS[name].options.model_fields.values():
        assert field.annotation is bool or (">" in bounds_of(field) and "<" in bounds_of(field))


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (LDDPOOptions, {"ld_alpha": 0.0}), (LDDPOOptions, {"ld_alpha": 1.0}), (GKDOptions, {"beta": 0.0}), (GKDOptions, {"beta": 1.0}),
        (TDPO2Options, {"alpha": 0.0}), (BetaDPOOptions, {"keep_fraction": 1.0, "alpha": 0.0}),
    ],
)  # fmt: skip
def test_the_ends_of_a_range_that_mean_something_are_allowed(kind, values):
    assert kind(**values).model_dump(include=set(values)) == values


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (LDDPOOptions, {"ld_alpha": 1.5}), (GKDOptions, {"beta": -0.1}), (GKDOptions, {"lmbda": 0.5}), (GKDOptions, {"temperature": 0.0}),
        (BetaDPOOptions, {"keep_fraction": 0.0}), (BetaDPOOptions, {"momentum": 1.0}), (TDPO2Options, {"beta": 0.0}),
    ],
)  # fmt: skip
def test_values_without_a_meaning_are_refused(kind, values):
    with pytest.raises(ValidationError):
        kind(**values)
