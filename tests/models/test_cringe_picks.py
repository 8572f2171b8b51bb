"""CRINGE's picks: the most probable other tokens, ties by id, and draws that depend on an answer's own name alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignflow.models.cringe_picks import draw_picks, top_others, uniform_numbers

INF = float("inf")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=5, max_size=9), st.integers(0, 4), st.integers(1, 4))
def test_they_are_the_first_of_a_stable_sort_without_the_negative_token(logits, token, k):
    values = torch.tensor([logits], dtype=torch.float64)
    ids, probabilities = top_others(values, torch.tensor([token]), k)
    wanted = [place for place in sorted(range(len(logits)), key=lambda place: -logits[place]) if place != token][:k]
    assert ids[0].tolist() == wanted
    torch.testing.assert_close(
        probabilities[0], torch.tensor([float(logits[place]) for place in wanted]).double().softmax(0)
    )


def test_of_a_small_vocabulary_all_others_are_picks():
    ids, probabilities = top_others(torch.zeros(1, 3), torch.tensor([1]), 10)
    assert ids.tolist() == [[0, 2]] and probabilities.tolist() == [[0.5, 0.5]]


def test_a_token_that_cannot_stand_there_is_never_drawn():
    logits = torch.tensor([[0.0, -INF, -INF, 1.0]])
    ids, probabilities = top_others(logits, torch.tensor([3]), 3)
    assert probabilities[0].tolist() == [1.0, 0.0, 0.0] and int(ids[0, 0]) == 0
    nearly = torch.tensor(
        [[0.0, -800.0, -900.0, 1.0]]
    )  # the others' probability is 0 in the type; rounding may lead to the very end
    for others in (logits, nearly):
        assert draw_picks(others, torch.tensor([3]), 3, torch.tensor([1.0])).tolist() == [0]


def test_margins_of_600_nats_and_a_negative_token_that_has_all_probability_leave_finite_picks():
    logits = torch.tensor([[600.0, 0.0, -600.0]])
    ids, probabilities = top_others(logits, torch.tensor([0]), 2)
    assert ids.tolist() == [[1, 2]] and probabilities.tolist() == [[1.0, 0.0]]


def test_draws_have_the_frequencies_of_the_softmax_and_get_no_gradient():
    logits = torch.log(torch.tensor([4.0, 3.0, 2.0, 1.0])).expand(20000, 4).requires_grad_()
    uniform = torch.rand(20000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = draw_picks(logits, torch.zeros(20000).long(), 2, uniform)
    shares = torch.bincount(drawn, minlength=4) / 20000
    assert shares.tolist() == pytest.approx([0, 0.6, 0.4, 0], abs=0.02) and not drawn.requires_grad


def test_one_pick_of_one_is_the_most_probable_other_token():
    logits = torch.tensor([[0.1, 0.5, 0.4], [0.1, 0.5, 0.4]])
    assert draw_picks(logits, torch.tensor([1, 0]), 1, torch.tensor([0.99, 0.0])).tolist() == [2, 1]


def test_each_pick_has_the_numbers_from_where_the_one_before_it_ends():
    uniform = torch.tensor([0.0, 0.49, 0.5, 0.99], dtype=torch.float64)
    assert draw_picks(torch.zeros(4, 3), torch.zeros(4).long(), 2, uniform).tolist() == [1, 1, 2, 2]


def test_an_answer_has_its_numbers_whatever_stands_beside_it():
    both, alone = (
        uniform_numbers(["a", "b"], [3, 2], seed=1, step=4),
        uniform_numbers(["b"], torch.tensor([2]), seed=1, step=4),
    )
    assert both.dtype == torch.float64 and torch.equal(both[3:], alone) and bool(((both >= 0) & (both < 1)).all())
    assert (
        len({*both.tolist(), *uniform_numbers(["a"], [3], 1, 5).tolist(), *uniform_numbers(["a"], [3], 2, 4).tolist()})
        == 11
    )
    assert uniform_numbers([], [], 0, 0).shape == (0,)
