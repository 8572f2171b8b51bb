"""Rows of the methods over single answers and negatives: they resolve, are described, and their options are checked."""

import pytest

from alignflow.data import catalogue
from alignflow.data.catalogue.unpaired_methods import UNPAIRED_METHODS
from alignflow.data.errors import RecipeError

REQUIRED = {"cringe": {"alpha": 0.5, "top_k": 3}, "pairwise_cringe": {"alpha": 0.5, "top_k": 3, "b": 1.0, "tau": 2.0}}


@pytest.mark.parametrize("name", UNPAIRED_METHODS)
def test_a_row_has_a_function_a_formula_a_paper_and_options_with_the_documented_defaults(name):
    row = UNPAIRED_METHODS[name]
    assert callable(row.resolve()) and row.summary.endswith(".") and row.formula and row.paper
    assert row.options(**REQUIRED.get(name, {}))
    assert not row.nll_option or row.nll_option in row.options.model_fields
    assert all(field.description for field in row.options.model_fields.values())


@pytest.mark.parametrize("name", REQUIRED)
def test_what_is_tuned_per_task_has_to_be_given(name):
    for missing in REQUIRED[name]:
        values = {field: value for field, value in REQUIRED[name].items() if field != missing}
        with pytest.raises(RecipeError, match=missing):
            catalogue.parse_options(UNPAIRED_METHODS[name], values, "align.options")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("kto", {"beta": 0.0}), ("kto", {"undesirable_weight": -1.0}), ("kto", {"desirable_weight": 1e9}), ("bco", {"delta_momentum": 1.0}),
        ("bco", {"delta_kind": "median"}), ("dro_v", {"tau": 0.0}), ("npo", {"retain": "kl"}), ("npo", {"retain_weight": -1.0}), ("d2o", {"alpha": 0.0}),
        ("cringe", {"alpha": 0.5, "top_k": 0}), ("pairwise_cringe", {**REQUIRED["pairwise_cringe"], "tau": 0.0}),
    ],
)  # fmt: skip
def test_options_out_of_bounds_are_refused(name, values):
    with pytest.raises(RecipeError, match=list(values)[-1]):
        catalogue.parse_options(UNPAIRED_METHODS[name], values, "align.options")
