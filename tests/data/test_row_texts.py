"""The texts of rows, for filters."""

from hypothesis import given
from hypothesis import strategies as st

from alignflow.data.records import assistant, user
from alignflow.data.row_texts import (
    answer_texts,
    asked_texts,
    is_far_too_long,
    questions,
    row_text,
    text_in_any_order,
    without_system,
    word_ngrams,
)

SYSTEM = {"role": "system", "content": "be brief"}
PAIR = {"prompt": [SYSTEM, *user("q")], "chosen": assistant("a"), "rejected": assistant("b")}


def test_answers_and_all_text_of_a_row():
    assert answer_texts(PAIR) == ["a", "b"] and answer_texts({"prompt": [], "completions": ["x", "y"]}) == ["x", "y"]
    assert all(text in row_text(PAIR) for text in ("be brief", "q", "a", "b"))
    assert row_text({"text": "one"}) == "one"


def test_pairs_and_rankings_have_one_text_whatever_the_order_of_their_answers():
    turned = {**PAIR, "chosen": PAIR["rejected"], "rejected": PAIR["chosen"]}
    assert text_in_any_order(PAIR, "?") == text_in_any_order(turned, "?") != "?"
    other = {**PAIR, "chosen": assistant("A b"), "rejected": assistant("a")}
    assert text_in_any_order(other, "?") != text_in_any_order(PAIR, "?")
    alone = {"prompt": user("q"), "completion": assistant("a"), "label": True}
    assert text_in_any_order(alone, "user: q\na") == "user: q\na"


def test_without_its_system_turn_a_row_has_the_rest_and_one_without_has_none():
    assert without_system(PAIR) == row_text({**PAIR, "prompt": user("q")})
    assert without_system({**PAIR, "prompt": user("q")}) is None


def test_what_a_prompt_asks_and_asked_before():
    prompt = [SYSTEM, *user("first"), *assistant("a"), *user("second")]
    assert [text.split()[-1] for text in asked_texts(prompt, earlier=False)] == ["second"]
    assert [text.split()[-1] for text in asked_texts(prompt, earlier=True)] == ["first", "second"]
    assert questions(prompt) == [prompt[:2], prompt] and questions([SYSTEM]) == [[SYSTEM]]


def test_runs_of_words_are_lower_case_and_none_is_asked_for_with_0():
    assert word_ngrams("One two  THREE", 2) == ["one two", "two three"]
    assert word_ngrams("one", 2) == word_ngrams("one two", 0) == []


@given(st.text(max_size=40), st.integers(0, 60))
def test_a_row_is_far_too_long_by_the_bytes_of_one_of_its_texts(text, bound):
    row = {"prompt": user("q"), "chosen": assistant(text), "rejected": assistant("b")}
    counted = text.rpartition("</think>")[2].strip()
    assert is_far_too_long(row, bound) is (max(len(counted.encode("utf-8", "surrogatepass")), 1) > bound)
    assert not is_far_too_long({"text": text}, bound), "a passage is cut where it is scored"
