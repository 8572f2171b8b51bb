"""Who meets whom, and which judged pairs become preferences."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignflow.data.records import is_held_out, user
from alignflow.models.judges.base import Verdict
from alignflow.models.judges.pairing import JudgedPair, all_pairs, is_label_held_out, kept_pairs, planned_pairs


@given(st.integers(2, 16), st.integers(0, 3), st.text(max_size=5))
def test_a_plan_is_fixed_and_gives_every_candidate_four_games(count, seed, identity):
    pairs = planned_pairs(count, seed, identity)
    assert pairs == planned_pairs(count, seed, identity)
    assert set(pairs) <= set(all_pairs(count)) and len(set(pairs)) == len(pairs)
    games = [sum(candidate in pair for pair in pairs) for candidate in range(count)]
    assert games == [min(count - 1, 4)] * count


def pair(first, second, probability, scores=(None, None), reason=""):
    return JudgedPair(first, second, Verdict(probability, scores, reason=reason))


def test_the_widest_margin_comes_first():
    pairs = [pair(0, 1, 0.6), pair(0, 2, 0.1), pair(1, 2, 0.8)]
    kept, dropped = kept_pairs(pairs, "abc", 2, 0.0)
    assert [(each.chosen, each.rejected) for each in kept] == [(2, 0), (1, 2)] and dropped == {}


def test_ties_narrow_and_unlabelled_pairs_are_counted():
    pairs = [pair(0, 1, 0.5), pair(0, 2, 0.55), pair(1, 2, None, reason="too long"), pair(1, 3, 0.9)]
    kept, dropped = kept_pairs(pairs, "abcd", 9, 0.1)
    assert [(each.chosen, each.rejected) for each in kept] == [(1, 3)]
    assert dropped == {"tie": 1, "narrow margin": 1, "too long": 1}


def test_a_tie_is_dropped_without_a_min_margin_too_and_almost_a_tie_is_not():
    kept, dropped = kept_pairs([pair(0, 1, 0.5), pair(0, 2, 0.5 + 1e-9)], "abc", 9, 0.0)
    assert len(kept) == 1 and dropped == {"tie": 1}


def test_a_preference_that_changes_with_the_order_is_a_tie_of_its_own_reason():
    pairs = [
        JudgedPair(0, 1, Verdict(0.506, orders=(0.912, 0.1))),
        JudgedPair(0, 2, Verdict(0.5, orders=(0.9, 0.1))),
        JudgedPair(1, 2, Verdict(0.506, orders=(0.507, 0.505))),
    ]
    kept, dropped = kept_pairs(pairs, "abc", 9, 0.0)
    assert kept == pairs[2:] and dropped == {"changes with the order": 2}


def test_an_order_that_prefers_neither_answer_makes_no_flip():
    kept, dropped = kept_pairs([JudgedPair(0, 1, Verdict(0.7, orders=(0.9, 0.5)))], "ab", 9, 0.0)
    assert len(kept) == 1 and not dropped


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_verdict_flips_in_both_orders_of_the_pair_or_in_none(given_order, swapped_order):
    there = Verdict((given_order + swapped_order) / 2, orders=(given_order, swapped_order))
    back = Verdict(1 - there.probability, orders=(1 - given_order, 1 - swapped_order))
    assert there.flips == back.flips
    assert not there.flips or (given_order > 0.5) != (swapped_order > 0.5)


def test_a_blank_answer_may_lose_and_never_wins():
    kept, dropped = kept_pairs([pair(0, 1, 0.9), pair(0, 2, 0.2), pair(1, 2, 0.8)], "abc", 9, 0.0, blank={2})
    assert [(each.chosen, each.rejected) for each in kept] == [(0, 1), (1, 2)] and dropped == {
        "blank answer preferred": 1
    }


def test_equal_pairs_of_equal_answers_are_kept_once():
    kept, dropped = kept_pairs([pair(0, 1, 0.9), pair(0, 2, 0.9)], ["a", "b", "b"], 9, 0.0)
    assert len(kept) == 1 and dropped == {"repeated pair": 1}


def test_soft_label_and_margin_belong_to_the_chosen():
    assert pair(0, 1, 0.2).soft_label == 0.8 and pair(0, 1, 0.2).margin == pytest.approx(0.6)
    assert pair(0, 1, 0.2, scores=(0.0, 3.0)).margin == 3.0  # a score of 0.0 is a score


def test_the_second_split_holds_out_a_share_of_what_the_first_left():
    prompts = [user(f"prompt {number}") for number in range(4000)]
    left = [prompt for prompt in prompts if not is_held_out(prompt, 0.2)]
    share = sum(is_label_held_out(prompt, 0.2) for prompt in left) / len(left)
    assert share == pytest.approx(0.2, abs=0.03)
    assert all(is_label_held_out(prompt, 0.2) for prompt in prompts if is_held_out(prompt, 0.2))


def test_the_result_of_a_tool_moves_no_prompt_to_the_other_side_of_the_second_split():
    called = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": {"name": "map", "arguments": {}}}],
    }
    prompts = [user(f"prompt {number}") for number in range(50)]
    assert all(
        is_label_held_out([*prompt, called, {"role": "tool", "content": "x"}], 0.5) == is_label_held_out(prompt, 0.5)
        for prompt in prompts
    )
