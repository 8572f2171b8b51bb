"""Groups of any sizes as padded grids: which answers stand where, which pairs there are, what is shown of a list."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from alignflow.models.losses.base import OfflineBatch
from alignflow.models.losses.lists import best_first, lists_of, make_lists, masked_logsumexp

NAN, INF = float("nan"), float("inf")


def test_groups_stand_in_the_order_of_their_numbers_and_answers_in_that_of_the_batch():
    lists = make_lists(torch.tensor([7, 3, 7, 3, 7, 5]), torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]))
    assert lists.places.tolist() == [[1, 3, 0], [5, 0, 0], [0, 2, 4]]
    assert lists.mask.tolist() == [[True, True, False], [True, False, False], [True] * 3]
    assert lists.sizes().tolist() == [2, 1, 3] and lists.labels[1].tolist() == [pytest.approx(0.6), 0, 0]


def test_an_answer_without_a_label_stands_in_no_list_and_its_group_stays():
    lists = make_lists(torch.tensor([0, 0, 1, 2]), torch.tensor([NAN, 1.0, NAN, 2.0]))
    assert lists.sizes().tolist() == [1, 0, 1] and lists.places[lists.mask].tolist() == [1, 3]
    assert make_lists(torch.tensor([0, 1]), torch.tensor([NAN, NAN])).sizes().tolist() == [0, 0]
    assert make_lists(torch.tensor([]).long(), torch.tensor([])).mask.shape == (0, 1)


def test_no_gradient_and_no_nan_come_from_padding():
    lists = make_lists(torch.tensor([0, 0, 1, 1]), torch.tensor([NAN, 1.0, 2.0, 3.0]))
    values = torch.tensor([NAN, 2.0, 3.0, 4.0], requires_grad=True)
    grid = lists.grid(values)
    grid.sum().backward()
    assert grid.tolist() == [[2.0, 0.0], [3.0, 4.0]] and values.grad.tolist() == [0, 1, 1, 1]


def test_a_batch_without_scores_is_refused():
    one = torch.zeros(1)
    with pytest.raises(ValueError, match="scores"):
        lists_of(OfflineBatch(one.long(), one.long(), one, one.long(), one.bool(), None, one))


@given(labels=st.lists(st.sampled_from([-INF, -1.0, 0.0, 2.5]), min_size=1, max_size=6), padding=st.integers(0, 3))
def test_the_best_come_first_equal_ones_in_the_order_of_the_list_and_padding_last(labels, padding):
    mask = torch.tensor([True] * len(labels) + [False] * padding)
    order = best_first(torch.tensor(labels + [NAN] * padding), mask).tolist()
    assert order[: len(labels)] == sorted(range(len(labels)), key=lambda place: (-labels[place], place))
    assert sorted(order) == list(range(len(labels) + padding))


def test_equal_labels_are_no_pair_and_a_pair_is_counted_once():
    lists = make_lists(torch.tensor([0, 0, 0]), torch.tensor([1.0, 2.0, 1.0]))
    assert lists.better().nonzero().tolist() == [[0, 1, 0], [0, 1, 2]]


def test_padding_is_neither_the_best_nor_the_worst_answer():
    lists = make_lists(torch.tensor([0, 0, 0, 1, 1, 2, 2]), torch.tensor([1.0, 2.0, 3.0, -1.0, -2.0, 5.0, 4.0]))
    grid = lists.grid(torch.arange(1.0, 8.0))
    assert lists.best(grid).tolist() == [3, 4, 6] and lists.worst(grid).tolist() == [1, 5, 7]


def test_metrics_are_those_of_the_best_and_the_worst_answer_and_the_share_of_pairs_in_order():
    lists = make_lists(torch.tensor([0, 0, 0, 1, 1, 2]), torch.tensor([1.0, 3.0, 2.0, 5.0, 5.0, NAN]))
    rewards, logps = torch.tensor([0.5, 0.7, 0.7, 1.0, 2.0, 9.0]), torch.arange(6.0)
    found = lists.metrics(lists.grid(rewards), lists.grid(logps))
    assert found["rewards/accuracies"][0] == pytest.approx(2 / 3) and math.isnan(found["rewards/accuracies"][1])
    assert found["rewards/margins"][0] == pytest.approx(0.2) and found["rewards/margins"][1] == 0
    assert found["logps/chosen"][:2].tolist() == [1, 3] and found["logps/rejected"][:2].tolist() == [0, 3]
    assert all(math.isnan(values[2]) for values in found.values())


def test_a_masked_logsumexp_is_finite_and_without_gradient_where_nothing_is_in_the_mask():
    values = torch.tensor([[1.0, NAN], [2.0, INF]], requires_grad=True)
    found = masked_logsumexp(values, torch.tensor([[True, False], [False, False]]))
    found.sum().backward()
    assert found[0] == 1 and math.isfinite(found[1]) and values.grad.tolist() == [[1, 0], [0, 0]]
