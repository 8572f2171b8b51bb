"""Plots of the report: pictures inside of the page, the same bytes for the same figures."""

import base64

import pytest

from alignflow.data.report.plots import bars_plot, histogram_plot, interval_plot, literal


@pytest.mark.parametrize(
    ("draw", "arguments"),
    [
        (interval_plot, ("wins", {"a": (0.5, 0.4, 0.6), "not measured": (None, None, None)})),
        (bars_plot, ("tokens", {"a": 1, "b": 2.5, "text": "x"}, "tokens")),
        (histogram_plot, ("scores", {"edges": [0, 1, 2], "counts": [3, 4]})),
        (histogram_plot, ("nothing", {})),
    ],
)
def test_a_plot_is_a_png_and_the_same_each_time(draw, arguments):
    found = draw(*arguments)
    assert found == draw(*arguments)
    assert base64.b64decode(found.removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")


def test_dollars_in_a_name_are_no_mathematics():
    assert literal("$x$") == r"\$x\$"
    assert bars_plot("tokens", {"$\\nothing$": 1}, "tokens").startswith("data:image/png")
