"""Two runs beside each other: values, and texts of models."""

import pytest

from alignflow.cli.compare import _value, plain


def test_texts_of_models_are_no_commands_to_the_terminal():
    assert "\x1b" not in plain("a\x1b[31mb") and plain("a[red]b") == "a[red]b"


@pytest.mark.parametrize(("value", "interval", "said"), [(None, None, "–"), (0.61234567, None, "0.6123")])
def test_a_value_that_was_not_measured_is_no_zero(value, interval, said):
    assert _value(value, interval) == said
