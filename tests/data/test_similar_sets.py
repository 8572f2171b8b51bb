"""Sets that are similar to an earlier one, against all pairs compared one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignflow.data import similar_sets
from alignflow.data.similar_sets import Sets, find

SETS = st.lists(st.sets(st.integers(0, 9), min_size=1), min_size=1, max_size=12)


def packed(sets):
    return Sets.of(
        np.array([member for found in sets for member in sorted(found)], dtype=np.uint64),
        np.array([len(found) for found in sets]),
    )


def by_hand(sets, threshold):
    kept, found = [], []
    for one in sets:
        similar = any(len(one & other) / len(one | other) >= threshold for other in kept)
        found.append(similar)
        kept += [] if similar else [one]
    return found


@pytest.mark.parametrize("few", [1, 1000], ids=["looked up by rarest members", "compared one by one"])
@given(sets=SETS, threshold=st.sampled_from([0.3, 0.5, 0.8]))
def test_where_all_share_a_band_the_result_is_that_of_all_pairs(few, sets, threshold):
    before, similar_sets.FEW = similar_sets.FEW, few
    try:
        keys = np.zeros((1, len(sets)), dtype=np.uint64)
        found = find(lambda band: keys[band], 1, packed(sets), packed(sets), threshold)
    finally:
        similar_sets.FEW = before
    assert found.tolist() == by_hand(sets, threshold)


def test_sets_that_share_no_band_are_not_compared():
    sets = packed([{1, 2}, {1, 2}])
    assert find(lambda band: np.array([1, 2], dtype=np.uint64), 1, sets, sets, 0.5).tolist() == [False, False]
