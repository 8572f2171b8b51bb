"""A step's name says which round of it a run does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignflow.data.step_names import base_and_round, base_of, matching, step_name

BASES = st.from_regex(r"[a-z][a-z_]{0,20}", fullmatch=True)


@given(BASES, st.integers(0, 1000))
def test_a_name_gives_back_the_step_and_the_round_that_it_was_made_of(base, number):
    assert base_and_round(step_name(base, number)) == (base, number)


@pytest.mark.parametrize("name", ["align", "align.0", "align.02", "align.x", ".2"])
def test_a_name_that_ends_in_no_number_has_no_round(name):
    assert base_and_round(name) == (name, 0) and base_of(name) == name


def test_a_name_without_a_round_means_all_rounds_and_one_with_it_means_that_one():
    names = ["prepare", "align.1", "reference.2", "align.2"]
    assert matching(names, "align") == ["align.1", "align.2"] and matching(names, "align.2") == ["align.2"]
    assert matching(names, "prepare") == ["prepare"] and matching(names, "align.3") == []
