"""Rows of the methods over lists: what they name exists, and their defaults are those of the papers."""

import pytest

from alignflow.data.catalogue.list_methods import LIST_METHODS


@pytest.mark.parametrize("name", LIST_METHODS)
def test_a_row_resolves_is_described_and_takes_lists(name):
    row = LIST_METHODS[name]
    assert callable(row.resolve()) and row.resolve().__name__ == name and row.summary.endswith(".") and row.formula
    assert (row.trainer, row.columns) == ("lists", ("prompt", "completions", "scores"))


def test_defaults_and_references():
    assert {name: row.options().model_dump() for name, row in LIST_METHODS.items()} == {
        "lipo": {"beta": 0.05, "labels": "scores", "reduction": "sum"}, "list_mle": {"beta": 0.05},
        "rrhf": {"rank_weight": 1.0, "sft_reduction": "sum"}, "pro": {"sft_coefficient": 0.05},
    }  # fmt: skip
    assert {name: row.needs_reference for name, row in LIST_METHODS.items()} == {"lipo": True, "list_mle": True, "rrhf": False, "pro": False}


@pytest.mark.parametrize("name", LIST_METHODS)
def test_every_number_has_both_bounds(name):
    for option, field in LIST_METHODS[name].options.model_fields.items():
        if field.annotation is float:
            bounds = {bound for part in field.metadata for bound in ("ge", "gt", "le", "lt") if getattr(part, bound, None) is not None}
            assert bounds & {"ge", "gt"} and bounds & {"le", "lt"}, option
