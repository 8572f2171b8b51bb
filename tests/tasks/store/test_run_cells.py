"""Figures as people read them."""

import pytest

from alignflow.tasks.store.run_cells import (
    formatted,
    name_text,
    seconds_text,
    settings_text,
    size_text,
    win_rate_text,
)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1.0 kB"),
        (43_210, "43.2 kB"),
        (12_345_678, "12.3 MB"),
        (2 * 10**9, "2.0 GB"),
    ],
)
def test_a_size_is_in_the_largest_unit_that_it_fills(size, text):
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("ends", "text"),
    [
        ((0.6, 0.5, 0.7), "60% [50, 70]"),
        ((0.6, None, None), "60%"),
        ((None, 0.5, 0.7), "–"),
        ((0.0, 0.0, 0.1), "0% [0, 10]"),
    ],
)
def test_a_win_rate_has_its_interval_where_there_is_one(ends, text):
    assert win_rate_text(*ends) == text


def test_what_was_not_measured_is_a_dash_and_not_zero():
    assert formatted(None) == seconds_text(None) == "–" and formatted(0.0) == "0.00"
    assert seconds_text(9.99) == "10.0" and seconds_text(1234.5) == "1,234"


def test_settings_are_written_as_a_person_gives_them():
    assert settings_text({"a.b": 0.3, "c": "text", "d": [1]}, smoke=True) == "--smoke, a.b=0.3, c=text, d=[1]"
    assert settings_text(None) == settings_text({}) == ""


def test_a_name_says_how_many_cached_runs_stand_behind_it():
    assert name_text("mine", 3) == "mine (+3 cached)" and name_text("mine") == "mine" and name_text(None) == "–"
