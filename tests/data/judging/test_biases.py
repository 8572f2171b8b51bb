"""What moves a judge that should not."""

import random

import pytest
from hypothesis import given, settings

from alignflow.data.judging.biases import (
    first_position,
    flips,
    length_effect,
    longer_wins,
    option_mass,
    self_preference,
    unanswered,
)
from tests.data.judging.outcomes_support import OUTCOMES, outcome, rows_of


def test_a_judge_that_always_takes_the_first_seat():
    outcomes = rows_of([outcome(1.0, 0.98, 0.02)] * 10)
    assert first_position(outcomes)["rate"] == 1.0 and first_position(outcomes)["trials"] == 20
    assert flips(outcomes)["rate"] == 1.0 and longer_wins(outcomes)["trials"] == 0


def test_a_pointwise_judge_has_one_order():
    assert first_position([outcome(1.0, 0.9)], pointwise=True)["trials"] == 1


@settings(max_examples=15, deadline=None)
@given(OUTCOMES)
def test_a_swap_of_all_pairs_changes_neither_the_seats_nor_the_lengths_that_win(outcomes):
    mirrored = [one.swapped() for one in outcomes]
    for figure in (first_position, flips, longer_wins):
        assert figure(outcomes) == pytest.approx(figure(mirrored))
    found, other = length_effect(outcomes), length_effect(mirrored)
    assert found["length"] == pytest.approx(other["length"], abs=1e-6)


def drawn(choose, count=400):
    """Pairs with lengths and gold drawn at random; `choose` gives the judge's choice."""
    drawing = random.Random(0)
    found = []
    for _ in range(count):
        gold, lengths = float(drawing.random() < 0.5), (drawing.randint(10, 100), drawing.randint(10, 100))
        found.append(outcome(gold, choose(gold, lengths, drawing), lengths=lengths))
    return rows_of(found)


def test_a_judge_that_takes_the_longer_answer_has_a_length_effect_at_matched_quality():
    found = length_effect(drawn(lambda gold, lengths, drawing: float(lengths[0] > lengths[1])))
    assert found["twice_as_long"]["low"] > 0.8 and abs(found["gold"]) < found["length"]


def test_a_judge_that_follows_people_has_none_even_where_people_prefer_longer_answers():
    outcomes = drawn(lambda gold, lengths, drawing: gold if drawing.random() < 0.8 else 1 - gold, 800)
    longer = [one for one in outcomes if (one.gold == 1.0) == (one.lengths[0] > one.lengths[1])]
    found = length_effect(rows_of(outcomes + longer))
    assert found["people_longer"]["low"] > 0.6 and longer_wins(outcomes + longer)["low"] > 0.5
    assert abs(found["twice_as_long"]["value"] - 0.5) < 0.1 and found["gold"] > 1


def test_without_gold_there_is_no_matched_quality():
    assert length_effect([outcome(None, 0.9)]) is None


def test_a_judge_that_prefers_its_own_family_beyond_people():
    own = [outcome(0.0, 0.9, families=("gpt-4", "llama-2")), outcome(1.0, 0.2, families=("llama-2", "gpt-4"))] * 10
    found = self_preference(rows_of(own), "GPT")
    assert found["judge"]["rate"] == 1.0 and found["people"]["rate"] == 0.0 and found["excess"]["value"] == 1.0


def test_pairs_of_one_family_and_pairs_of_unknown_writers_say_nothing_of_self_preference():
    both = [outcome(1.0, 0.9, families=("gpt-4", "gpt-3")), outcome(1.0, 0.9, families=("gpt-4", ""))]
    assert self_preference(both, "gpt") is None and self_preference(both, "") is None


def test_a_judge_that_does_not_answer_its_question_is_told_of():
    good, poor = option_mass([0.99, 0.98]), option_mass([0.01, None, 0.02])
    assert good["mean"] == pytest.approx(0.985) and unanswered(good) == ""
    assert "does not answer" in unanswered(poor) and poor["count"] == 2
    assert option_mass([None]) is None and unanswered(None) == ""
