"""What was asked and what it cost: counted once, estimated where it must be, and never more than was allowed."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignflow.data.configs.server import ServerOptions
from alignflow.data.errors import ModelError
from alignflow.models.generation.server_usage import Usage

PRICED = {"price_per_million_input": 100.0, "price_per_million_output": 300.0}


def usage(shares=1, **options):
    given_ = {"urls": ["http://127.0.0.1:1/v1"], "model": "m", **options}
    return Usage(ServerOptions.model_validate(given_), shares)


def ask(counted, characters=100, most_new=10):
    estimate = counted.estimate(characters, most_new)
    counted.reserve(estimate)
    counted.release(estimate)
    counted.came(estimate, characters, (40, 5))


def test_tokens_and_prices_are_summed():
    counted = usage(**PRICED)
    for _ in range(10):
        ask(counted)
    assert (counted.prompt_tokens, counted.completion_tokens) == (400, 50)
    assert counted.cost == pytest.approx((400 * 100 + 50 * 300) / 1e6)
    assert usage().cost is None, "without prices there is no cost, which is not a cost of 0"


def test_threads_lose_no_count():
    counted = usage(**PRICED)
    threads = [threading.Thread(target=lambda: [ask(counted) for _ in range(200)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted.asked == 800 and counted.prompt_tokens == 32_000


def test_estimates_follow_what_replies_had():
    counted = usage()
    assert counted.estimate(100, 10).prompt == 50
    ask(counted)
    assert counted.estimate(100, 10).prompt == 44, "0.4 tokens a character, and a tenth more"


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=60), st.integers(1, 3))
def test_no_question_is_let_through_that_could_cost_more_than_is_left(characters, shares):
    counted = usage(shares, max_cost=0.5, **PRICED)
    for number in characters:
        estimate = counted.estimate(number, 10)
        try:
            counted.reserve(estimate)
        except ModelError:
            continue
        counted.release(estimate)
        counted.came(estimate, number, (estimate.prompt, 10))
        assert counted.cost <= 0.5 / shares


def test_questions_on_their_way_count_as_spent():
    counted = usage(max_cost=0.012, **PRICED)
    estimate = counted.estimate(100, 10)  # 0.008
    counted.reserve(estimate)
    with pytest.raises(ModelError, match="max_cost"):
        counted.reserve(estimate)
    counted.release(estimate)
    counted.reserve(estimate)


def test_nonsense_is_too_much_above_its_share_and_a_handful():
    counted = usage(most_nonsense=0.1)
    for _ in range(5):
        counted.count("unusable")
    assert not counted.too_much_nonsense()
    counted.count("unusable")
    assert counted.too_much_nonsense()
    counted.asked = 100
    assert not counted.too_much_nonsense()


def test_the_line_for_people_names_what_went_wrong():
    counted = usage(**PRICED)
    ask(counted)
    counted.count("retried")
    assert counted.in_words() == (
        "1 replies (0 more from the journal), 40 tokens asked, 5 answered, 0.0055 USD; 1 tries were repeated"
    )
