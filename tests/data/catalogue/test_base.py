"""Rows of the catalogue: what an address names, and names that are nearly right."""

import pytest

from alignflow.data.catalogue import METHODS
from alignflow.data.catalogue.base import Part, look_up, parse_options
from alignflow.data.errors import RecipeError


def test_an_address_is_a_module_and_a_name_in_it():
    assert Part("alignflow.data.catalogue.base:look_up", "x").resolve() is look_up
    with pytest.raises(AttributeError):
        Part("alignflow.data.catalogue.base:nothing", "x").resolve()


def test_a_name_that_is_not_there_brings_the_nearest_one():
    assert look_up(METHODS, "dpo", "align.method") is METHODS["dpo"]
    with pytest.raises(RecipeError, match="did you mean 'simpo'"):
        look_up(METHODS, "sinpo", "align.method")


def test_options_are_validated_by_the_row_and_a_fault_names_its_place():
    assert parse_options(METHODS["dpo"], {"beta": 0.3}, "align.options").beta == 0.3
    with pytest.raises(RecipeError, match="align.options.beta"):
        parse_options(METHODS["dpo"], {"beta": "much"}, "align.options")
