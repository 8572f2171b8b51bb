"""For each answer one of another prompt."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from alignflow.models.batching import EncodedRow
from alignflow.models.trainers.mismatched import find_mismatched


def found_in(prompts, longest=1000, answer=3):
    rows = [EncodedRow((prompt,) * 2, (7,) * answer) for prompt in prompts]
    count = len(rows)
    return find_mismatched(rows, np.arange(count), np.full(count, 2 + answer), np.full(count, answer), longest)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30))
def test_the_prompt_differs_wherever_there_is_another_one_near(prompts):
    found = found_in(prompts)
    for place, other in enumerate(found):
        if other < 0:
            assert len(set(prompts)) == 1
        else:
            assert prompts[other] != prompts[place]
    assert (found == found_in(prompts)).all(), "the order is a function of the rows alone"


def test_an_answer_that_does_not_fit_behind_the_prompt_is_none():
    assert (found_in([0, 1, 2], longest=5) >= 0).all() and (found_in([0, 1, 2], longest=4) == -1).all()


def test_one_answer_has_none():
    assert found_in([0]).tolist() == [-1]
