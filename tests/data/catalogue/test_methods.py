"""Rows of METHODS: what they name exists, what they take can be had, and their options are bounded."""

import inspect

import pytest

from alignflow.data import catalogue
from alignflow.data.errors import RecipeError
from alignflow.models.policy import Policy

METHODS = catalogue.METHODS
REQUIRED = {
    "cringe": {"alpha": 0.5, "top_k": 3},
    "pairwise_cringe": {"alpha": 0.5, "top_k": 3, "b": 1.0, "tau": 2.0},
    "gkd": {"teacher": "a/model"},
    "on_policy_distillation": {"teacher": "a/model"},
}
"""Options without a default: tuned per task, or a model of the user's."""


@pytest.mark.parametrize("name", METHODS)
def test_a_row_resolves_and_is_described(name):
    row = METHODS[name]
    assert callable(row.resolve()) and row.summary.endswith(".") and row.formula and row.family in catalogue.FAMILIES
    assert not row.whole_step or callable(catalogue.Part(row.whole_step, "").resolve())
    named = [row.nll_option, row.teacher, *(option for _, option in row.measured_with)]
    assert {option for option in named if option} <= set(row.options.model_fields)
    arguments = inspect.signature(Policy.token_statistics).parameters
    assert {argument for argument, _ in row.measured_with} <= set(arguments)
    assert all(field.description for field in row.options.model_fields.values()) and row.options(
        **REQUIRED.get(name, {})
    )


@pytest.mark.parametrize("name", METHODS)
def test_every_number_among_the_options_has_both_bounds(name):
    for option, field in METHODS[name].options.model_fields.items():
        if field.annotation in (float, int):
            bounds = {
                bound
                for part in field.metadata
                for bound in ("ge", "gt", "le", "lt")
                if getattr(part, bound, None) is not None
            }
            assert bounds & {"ge", "gt"} and bounds & {"le", "lt"}, option


@pytest.mark.parametrize(
    ("name", "defaults"),
    [
        ("lipo", {"beta": 0.05, "labels": "win_rates", "reduction": "sum"}),
        ("list_mle", {"beta": 0.05}),
        ("rrhf", {"rank_weight": 1.0, "sft_reduction": "sum"}),
        ("pro", {"sft_coefficient": 0.05}),
    ],
)
def test_defaults_are_those_of_the_papers(name, defaults):
    assert METHODS[name].options().model_dump() == defaults


@pytest.mark.parametrize("name", catalogue.FAMILIES)
def test_what_feeds_a_family_is_a_reader_and_says_what_columns_become(name):
    family = catalogue.FAMILIES[name]
    for number, feed in enumerate(family.feeds):
        assert callable(feed.resolve()) and family.feed(feed.kind) is feed
        assert feed.summary or number == 0, "columns of the first may be the family's own"


@pytest.mark.parametrize("name", REQUIRED)
def test_an_option_without_a_default_has_to_be_given(name):
    for missing in REQUIRED[name]:
        values = {field: value for field, value in REQUIRED[name].items() if field != missing}
        with pytest.raises(RecipeError, match=missing):
            catalogue.parse_options(METHODS[name], values, "align.options")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("kto", {"beta": 0.0}),
        ("kto", {"undesirable_weight": -1.0}),
        ("kto", {"desirable_weight": 1e9}),
        ("bco", {"delta_momentum": 1.0}),
        ("bco", {"delta_kind": "median"}),
        ("npo", {"retain": "logits"}),
        ("npo", {"retain_weight": -1.0}),
        ("cringe", {"alpha": 0.5, "top_k": 0}),
        ("pairwise_cringe", {**REQUIRED["pairwise_cringe"], "tau": 0.0}),
    ],
)
def test_options_out_of_bounds_are_refused(name, values):
    with pytest.raises(RecipeError, match=list(values)[-1]):
        catalogue.parse_options(METHODS[name], values, "align.options")
