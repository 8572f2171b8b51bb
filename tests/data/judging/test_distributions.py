"""Mean, quantiles and histogram."""

from hypothesis import given
from hypothesis import strategies as st

from alignflow.data.judging.distributions import distribution


def test_of_nothing_there_is_nothing():
    assert distribution([]) == {"count": 0, "mean": None, "quantiles": None, "histogram": None}


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50))
def test_every_figure_is_in_the_histogram_and_the_mean_between_the_ends(values):
    found = distribution(values)
    assert sum(found["histogram"]["counts"]) == found["count"] == len(values)
    assert found["quantiles"]["0.0"] - 1e-6 <= found["mean"] <= found["quantiles"]["1.0"] + 1e-6
