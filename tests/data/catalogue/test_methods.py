"""Rows of METHODS: what they name exists, what they take can be had, and their options are bounded."""

import pytest

from alignflow.data import catalogue

METHODS = catalogue.METHODS


@pytest.mark.parametrize("name", METHODS)
def test_a_row_resolves_and_is_described(name):
    row = METHODS[name]
    assert callable(row.resolve()) and row.summary.endswith(".") and row.formula and row.family in catalogue.FAMILIES
    assert not row.whole_step or callable(catalogue.Part(row.whole_step, "").resolve())
    assert row.whole_step or not row.mismatched


@pytest.mark.parametrize("name", METHODS)
def test_every_number_among_the_options_has_both_bounds(name):
    for option, field in METHODS[name].options.model_fields.items():
        if field.annotation in (float, int):
            bounds = {bound for part in field.metadata for bound in ("ge", "gt", "le", "lt") if getattr(part, bound, None) is not None}
            assert bounds & {"ge", "gt"} and bounds & {"le", "lt"}, option


@pytest.mark.parametrize(("name", "defaults"), [
    ("lipo", {"beta": 0.05, "labels": "win_rates", "reduction": "sum"}), ("list_mle", {"beta": 0.05}),
    ("rrhf", {"rank_weight": 1.0, "sft_reduction": "sum"}), ("pro", {"sft_coefficient": 0.05}),
])  # fmt: skip
def test_defaults_are_those_of_the_papers(name, defaults):
    assert METHODS[name].options().model_dump() == defaults


@pytest.mark.parametrize("name", catalogue.FAMILIES)
def test_what_feeds_a_family_is_a_reader_and_says_what_columns_become(name):
    family = catalogue.FAMILIES[name]
    for number, feed in enumerate(family.feeds):
        assert callable(feed.resolve()) and family.feed(feed.kind) is feed
        assert bool(feed.summary) == (number > 0), "the first is the family's own data"
