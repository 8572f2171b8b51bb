"""Figures as people write them."""

import pytest

from alignflow.data.number_text import number_text


@pytest.mark.parametrize(
    ("value", "text"),
    [(33440.0, "33,440"), (1234.56, "1,235"), (12, "12"), (0.0, "0"), (-2500000, "-2,500,000"), (0.123456, "0.1235")]
    + [(2e-6, "2e-06"), (None, "–"), (True, "True"), ("kept", "kept"), (float("nan"), "nan")],
)
def test_a_figure_is_written_as_people_write_it(value, text):
    assert number_text(value) == text
