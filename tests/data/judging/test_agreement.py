"""Agreement of a judge with people."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignflow.data.agreement import cohen_kappa
from alignflow.data.judging.agreement import agreement
from alignflow.data.judging.outcomes import Outcome
from tests.data.judging.outcomes_support import OUTCOMES, outcome, rows_of

LABELS = st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=30)


def test_kappa_of_a_worked_example():
    """Cohen's table of 20, 5, 10, 15: observed 0.7, expected 0.5."""
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(list(zip(first, second, strict=True))) == pytest.approx(0.4)


@given(LABELS)
def test_kappa_of_a_judge_that_says_the_same_is_one_or_undefined_where_all_say_one_thing(labels):
    kappa = cohen_kappa(list(zip(labels, labels, strict=True)))
    assert kappa is None if len(set(labels)) == 1 else kappa == pytest.approx(1.0)


@given(LABELS, st.data())
def test_kappa_does_not_care_who_is_first(labels, data):
    others = data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=len(labels), max_size=len(labels)))
    assert cohen_kappa(list(zip(labels, others, strict=True))) == pytest.approx(
        cohen_kappa(list(zip(others, labels, strict=True)))
    )


def test_without_gold_there_is_no_agreement():
    assert agreement([Outcome("p", 0.9, (0.9, 0.9))]) is None


def test_an_oracle_agrees_with_everybody():
    found = agreement(rows_of([outcome(gold, {1.0: 0.9, 0.0: 0.1, 0.5: 0.5}[gold]) for gold in (1.0, 0.0, 0.5)] * 5))
    assert found["accuracy"]["rate"] == found["three_way"]["rate"] == found["kappa"]["value"] == 1.0
    assert found["accuracy"]["trials"] == 10 and found["gold_ties"] == 5


def test_ties_flips_and_missing_labels_count_one_half_so_that_silence_does_not_pay():
    outcomes = [
        outcome(1.0, 0.9),
        outcome(1.0, 0.5),
        outcome(1.0, 0.9, 0.2),
        Outcome("q", None, reason="too long", gold=1.0),
        outcome(1.0, 0.1),
    ]
    found = agreement(rows_of(outcomes))
    assert found["accuracy"]["rate"] == pytest.approx(2.5 / 5)
    assert found["accuracy_decided"] == {**found["accuracy_decided"], "hits": 1, "trials": 2}
    assert found["three_way"]["trials"] == 4
    assert found["confusion"]["first"] == {"first": 1, "tie": 2, "second": 1, "no label": 1}


def test_each_order_is_counted_by_itself_and_one_without_a_verdict_is_wrong():
    outcomes = [outcome(1.0, 1.0, 0.0), Outcome("q", None, (None, 1.0), reason="reply not understood", gold=1.0)]
    orders = agreement(rows_of(outcomes))["orders"]
    assert (orders["given"]["hits"], orders["swapped"]["hits"], orders["both_orders"]["hits"]) == (1, 1, 0)
    assert orders["same"]["hits"] == 0


@settings(max_examples=15, deadline=None)
@given(OUTCOMES)
def test_swapping_the_sides_of_all_pairs_changes_no_agreement(outcomes):
    found, mirrored = agreement(outcomes), agreement([one.swapped() for one in outcomes])
    for name in ("accuracy", "accuracy_decided", "three_way"):
        assert found[name]["rate"] == pytest.approx(mirrored[name]["rate"])
    assert found["kappa"]["value"] == pytest.approx(mirrored["kappa"]["value"])
    assert found["orders"]["given"]["hits"] == mirrored["orders"]["swapped"]["hits"]
