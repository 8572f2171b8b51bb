"""Inputs of a recipe's method."""

import pytest

from alignflow.data.configs.loading import load_recipe
from alignflow.flows.method_inputs import conversion, needed_inputs


@pytest.fixture
def recipe(repository):
    return lambda *settings: load_recipe(repository / "recipes" / "tiny.yaml", settings)


def test_a_method_with_a_frozen_reference_needs_its_scores_and_one_without_does_not(recipe):
    assert "reference" in needed_inputs(recipe("align.method=dpo", "align.options={}"))
    assert "reference" not in needed_inputs(recipe("align.method=simpo", "align.options={}"))


def test_data_of_another_kind_is_told_and_a_methods_own_is_not(recipe):
    own, other = recipe("align.method=dpo", "align.options={}"), recipe("align.method=kto", "align.options={}")
    assert conversion(own, {"preferences"}) == ""
    assert conversion(other, {"preferences"}).startswith("align: kto reads preferences: ")
