"""Agreement of labellers against values computed by hand and by scipy-free definitions, and where nothing can be said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignflow.data.agreement import agreement, alpha_interval, cohen_kappa, kappa_figures, krippendorff_alpha

TABLE = [("yes", "yes")] * 20 + [("yes", "no")] * 5 + [("no", "yes")] * 10 + [("no", "no")] * 15
"""Fifty items: observed agreement 0.7, by chance 0.5."""


def test_cohens_kappa_of_a_table_computed_by_hand():
    assert cohen_kappa(TABLE) == pytest.approx((0.7 - 0.5) / (1 - 0.5))
    found = kappa_figures(TABLE)
    assert found["kappa_low"] == pytest.approx(0.4 - 0.2507, abs=0.01) and found["kappa_high"] == pytest.approx(
        0.6507, abs=0.01
    )


def test_krippendorffs_alpha_of_binary_labels_computed_by_hand():
    # Twenty labels, ten items: D_o counts 2 disagreeing labels of each of 4 items; 8 labels of one kind, 12 of the other.
    items = [("a", "a")] * 2 + [("b", "b")] * 4 + [("a", "b")] * 4
    assert krippendorff_alpha(items) == pytest.approx(1 - (20 - 1) * 8 / (2 * 8 * 12))


def test_items_with_one_label_tell_nothing_of_alpha():
    items = [("a", "b", "a"), ("b", "b"), ("a", "a")]
    assert krippendorff_alpha([*items, ("a",), ()]) == pytest.approx(krippendorff_alpha(items))


@pytest.mark.parametrize("pairs", [[], [("a", "a")] * 5])
def test_labels_that_are_all_the_same_have_no_kappa_and_no_alpha(pairs):
    assert cohen_kappa(pairs) is None and krippendorff_alpha(pairs) is None
    assert kappa_figures(pairs) == {"kappa": None, "kappa_low": None, "kappa_high": None}
    assert alpha_interval(pairs) == (None, None)


LABELS = st.sampled_from(["a", "b", "tie"])


@given(st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=40))
def test_figures_do_not_depend_on_who_is_first_or_on_names(pairs):
    turned = [(other, one) for one, other in pairs]
    names = {"a": 1, "b": 2, "tie": 3}
    renamed = [(names[one], names[other]) for one, other in pairs]
    for figure in (cohen_kappa, krippendorff_alpha):
        expected = None if figure(pairs) is None else pytest.approx(figure(pairs))
        assert figure(turned) == expected and figure(renamed) == expected
    if cohen_kappa(pairs) is not None:
        found = kappa_figures(pairs)
        assert found["kappa_low"] <= found["kappa"] <= found["kappa_high"]


def test_full_agreement_is_one():
    pairs = [("a", "a"), ("b", "b")] * 4
    assert cohen_kappa(pairs) == pytest.approx(1.0) and krippendorff_alpha(pairs) == pytest.approx(1.0)


def test_labellers_are_compared_on_the_items_that_they_share():
    found = agreement({"anna": {"1": "a", "2": "b", "3": "a"}, "ben": {"2": "b", "3": "b"}, "cid": {"9": "a"}})
    assert found["labellers"] == {"anna": 3, "ben": 2, "cid": 1} and found["items"] == 2
    (only,) = found["pairs"]
    assert (only["labellers"], only["items"], only["agree"], only["rate"]) == (["anna", "ben"], 2, 1, 0.5)
    assert only["low"] < 0.5 < only["high"] and found["alpha"] == pytest.approx(0.0)
    assert agreement({"anna": {"1": "a"}})["alpha"] is None and agreement({})["pairs"] == []


def test_the_interval_of_alpha_holds_it_and_is_the_same_each_time():
    items = [("a", "a")] * 20 + [("b", "b")] * 15 + [("a", "b")] * 8
    low, high = alpha_interval(items)
    assert low < krippendorff_alpha(items) < high and alpha_interval(items) == (low, high)
