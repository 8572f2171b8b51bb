"""Values of raw rows: figures, flags, texts and what says nothing."""

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignflow.data.sources.base import RowError, column, flag, is_blank, number, probability, text


def reason(function, *arguments):
    with pytest.raises(RowError) as error:
        function(*arguments)
    return error.value.reason


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_figure_is_the_same_as_a_number_and_as_text(value):
    assert number(value) == number(repr(value)) == value


def test_a_missing_figure_is_none_and_no_zero():
    assert [number(value) for value in (None, "", math.nan, "nan")] == [None] * 4 and number(0) == 0.0


def test_what_is_no_figure_has_a_reason():
    assert reason(number, True) == reason(number, "x") == reason(number, [1]) == "not_a_number"
    assert reason(number, math.inf) == reason(number, 10**400) == "not_finite"


def test_a_probability_may_be_outside_by_rounding_alone():
    assert probability(1 + 1e-7) == 1.0 and probability(-1e-7) == 0.0 and probability("") is None
    assert reason(probability, 1.1) == reason(probability, -0.5) == "no_probability"


@pytest.mark.parametrize("value", [None, False, "", " ", "[]", "NULL", "nan", math.nan, [], {}])
def test_what_says_nothing(value):
    assert is_blank(value)


@pytest.mark.parametrize("value", [0, True, "0", "no", [0], {"a": None}])
def test_what_says_something(value):
    assert not is_blank(value)


def test_a_flag_is_a_boolean_a_number_or_a_word():
    assert [flag(value) for value in (True, 1, "1.0", "Yes", "true")] == [True] * 5
    assert [flag(value) for value in (False, 0, "0", "no", "FALSE")] == [False] * 5
    assert flag(None) is None and flag("") is None
    assert reason(flag, 2) == reason(flag, "perhaps") == "not_a_boolean"


def test_the_first_column_that_is_there_counts_and_none_has_a_reason():
    assert column({"a": None, "b": 0, "c": 1}, "a", "b", "c") == 0
    assert reason(column, {"a": None}, "a") == "missing_column"
    assert text(" x ") == " x " and reason(text, " ") == "empty" and reason(text, 1) == "not_text"


def test_a_decimal_of_a_typed_table_is_a_figure():
    assert number(Decimal("1.50")) == 1.5 and probability(Decimal("0.2")) == 0.2 and flag(Decimal(1)) is True
    assert number(Decimal("NaN")) is None and reason(number, Decimal("Infinity")) == "not_finite"
