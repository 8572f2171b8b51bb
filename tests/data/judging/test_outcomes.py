"""One judged pair: its label, and its mirror image."""

import pytest
from hypothesis import given

from alignflow.data.judging.outcomes import Outcome, flipped, settled, side
from tests.data.judging.outcomes_support import OUTCOMES, outcome


def test_a_preference_that_changes_with_the_order_is_a_tie():
    assert outcome(1.0, 0.99, 0.02).choice == 0.5 and not outcome(1.0, 0.99, 0.02).decided


@pytest.mark.parametrize("orders", [(0.9, None), (None, 0.1), (0.5, 0.1), (0.9, 0.5), (0.9, 0.8)])
def test_an_order_without_a_preference_flips_nothing(orders):
    assert not flipped(orders)


def test_a_missing_label_is_no_tie():
    assert Outcome("p", None, reason="too long").choice is None


def test_what_differs_from_one_half_by_rounding_is_one_half():
    assert settled(0.5 + 1e-12) == 0.5 and side(0.5 - 1e-12) == 0.5 and side(0.49) == 0.0


@given(OUTCOMES)
def test_a_pair_that_is_swapped_twice_is_the_same_and_swapped_once_its_mirror_image(outcomes):
    for one in outcomes:
        other = one.swapped()
        assert other.choice == pytest.approx(1 - one.choice) and other.flips == one.flips
        assert other.gold == 1 - one.gold and other.lengths == one.lengths[::-1]
        assert other.swapped().orders == pytest.approx(one.orders)
