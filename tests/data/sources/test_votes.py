"""Two answers and what people said of them: words and numbers of all kinds, several annotators, rows that belong together."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignflow.data.errors import DataError
from alignflow.data.records import assistant, user
from alignflow.data.sources.base import RowError
from alignflow.data.sources.detect import detect
from alignflow.data.sources.votes import (
    Vote,
    gathered,
    is_votes,
    item_of,
    numbers_of,
    parse,
    refuse_scale,
    refuse_zero_and_one,
    share,
    share_of,
    two_answers,
    votes_of,
)

PAIR = {"prompt": "q", "response_a": "yes", "response_b": "no"}
PANDA = {"instruction": "q", "input": "i", "response1": "yes", "response2": "no"}


@pytest.mark.parametrize("word", ["a", "A", "model_a", "[[A]]", "Response 1", "1", 1, 1.0, "left", "first"])
def test_words_and_numbers_for_the_first_answer(word):
    assert share_of(word) == 1.0


@pytest.mark.parametrize("word", ["b", "model_b", "[[B]]", "output_2", 2, "2", "right"])
def test_words_and_numbers_for_the_second_answer(word):
    assert share_of(word) == 0.0


@pytest.mark.parametrize("word", ["tie", "Tie (bothbad)", "draw", 0, "0", 1.5, "[[C]]"])
def test_words_and_numbers_for_a_tie(word):
    assert share_of(word) == 0.5


@pytest.mark.parametrize("word", ["x", "", 3, True, None, 0.7, "ab", []])
def test_anything_else_is_no_verdict(word):
    with pytest.raises(RowError, match="unknown_verdict"):
        share_of(word)


def test_answers_that_are_counted_from_zero_have_such_verdicts():
    row = {"prompt": "q", "response_0": "yes", "response_1": "no", "better_response_id": 0}
    (pair,) = parse(row, "preferences")
    assert pair["chosen"] == assistant("yes")
    assert parse({**row, "better_response_id": 1}, "preferences")[0]["chosen"] == assistant("no")


@pytest.mark.parametrize("labels", [[0, 1], ["1", "0", "0"], [1.0, 0.0], [1, 0, None]])
def test_a_source_whose_labels_are_0_and_1_alone_is_refused(labels):
    numbers = set().union(*(numbers_of({**PAIR, "preference": label}) for label in labels))
    with pytest.raises(DataError, match="the labels are 0 and 1"):
        refuse_zero_and_one(numbers, "votes.jsonl")


@pytest.mark.parametrize("labels", [[0, 1, 2], [1, 2], [1, "a", "b"], ["tie", "a"], [0], [1]])
def test_numbers_that_have_one_reading_are_taken(labels):
    numbers = set().union(*(numbers_of({**PAIR, "preference": label}) for label in labels))
    refuse_zero_and_one(numbers, "votes.jsonl")
    assert numbers == {str(label) for label in labels if isinstance(label, int)}


def test_answers_that_are_counted_from_zero_make_0_and_1_plain():
    row = {"prompt": "q", "response_0": "yes", "response_1": "no"}
    assert not numbers_of({**row, "better_response_id": 0}) and not numbers_of({**row, "better_response_id": 1})
    assert numbers_of({**PANDA, "annotator1": 1, "annotator2": 0, "annotator3": None}) == {"0", "1"}


def test_one_vote_is_a_pair_without_a_soft_label():
    (pair,) = parse({**PAIR, "preference": "b", "confidence": 0.8}, "preferences")
    assert (pair["chosen"], pair["rejected"]) == (assistant("no"), assistant("yes"))
    assert pair["judge"] == "human" and pair["confidence"] == 0.8 and "soft_label" not in pair and "weight" not in pair


def test_disagreement_of_several_becomes_the_share_of_the_winner():
    (pair,) = parse({**PANDA, "annotator1": 2, "annotator2": 0, "annotator3": 2}, "preferences")
    assert pair["prompt"] == user("q\n\ni") and pair["chosen"] == assistant("no")
    assert pair["soft_label"] == pytest.approx(5 / 6) and pair["judge"] == "human"
    (other,) = parse({**PAIR, "votes": ["a", "a", "b"], "human_preference": "b"}, "preferences")
    assert other["chosen"] == assistant("yes") and other["soft_label"] == pytest.approx(2 / 3), (
        "votes before what was made of them"
    )


def test_weights_of_votes_weigh_the_share_and_their_mean_weighs_the_row():
    votes = [{"preference": "a", "weight": 3}, {"preference": "b", "weight": 1}]
    (pair,) = parse({**PAIR, "votes": votes}, "preferences")
    assert pair["soft_label"] == 0.75 and pair["weight"] == 2.0


@pytest.mark.parametrize(
    ("votes", "reason"),
    [(["tie"], "tie"), (["tie", "tie"], "tie"), (["a", "b"], "no_majority"), (["a", "what"], "unknown_verdict")],
)
def test_a_share_of_one_half_is_no_pair_and_says_why(votes, reason):
    with pytest.raises(RowError, match=reason):
        parse({**PAIR, "votes": votes}, "preferences")


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=9))
def test_the_other_order_of_the_answers_gives_the_other_share(shares):
    votes, turned = [Vote(value) for value in shares], [Vote(1 - value) for value in shares]
    assert share(votes) + share(turned) == pytest.approx(1.0)


def test_rows_of_one_vote_each_are_put_together_in_either_order():
    swapped = {"prompt": "q", "response_a": "no", "response_b": "yes"}
    rows = [
        {**PAIR, "preference": "a", "annotator": "anna"},
        {**PAIR, "prompt": "other", "preference": "b", "annotator": "anna"},
        {**swapped, "preference": "b", "annotator": "ben"},
        {**swapped, "preference": "tie", "annotator": "cid"},
    ]
    found = gathered(list(enumerate(rows, 1)), {})
    assert [at for at, _ in found] == [1, 2] and found[1][1] == rows[1]
    assert [vote.share for vote in votes_of(found[0][1])] == [1.0, 1.0, 0.5]
    (pair,) = parse(found[0][1], "preferences")
    assert (
        pair["soft_label"] == pytest.approx(5 / 6) and pair["chosen"] == assistant("yes") and pair["judge"] == "human"
    )


def test_of_one_person_s_votes_the_last_one_counts():
    rows = [{**PAIR, "preference": word, "annotator": "anna"} for word in ("a", "b")]
    ((_, row),) = gathered(list(enumerate(rows)), {})
    assert (
        parse(row, "preferences")[0]["chosen"] == assistant("no")
        and parse(row, "preferences")[0]["judge"] == "human:anna"
    )


def test_rows_under_other_names_are_put_together_too():
    columns = {"response_a": "x", "response_b": "y"}
    rows = [{"prompt": "q", "x": "yes", "y": "no", "preference": word} for word in ("a", "a", "b")]
    ((_, row),) = gathered(list(enumerate(rows)), columns)
    assert len(row["votes"]) == 3 and row["x"] == "yes"


def test_a_row_that_cannot_be_read_stays_for_the_parser_to_say_why():
    rows = [{**PAIR, "preference": "what"}, {"prompt": "q"}]
    assert gathered(list(enumerate(rows)), {}) == list(enumerate(rows))


def test_pairs_of_trl_with_annotators_are_votes():
    row = {"prompt": "q", "chosen": "yes", "rejected": "no", "annotator": "anna"}
    assert is_votes(row) and not is_votes({name: row[name] for name in ("prompt", "chosen", "rejected")})
    assert parse(row, "preferences")[0]["judge"] == "human:anna" and detect([row], "file") == "votes"


def test_an_item_is_named_the_same_in_either_order():
    swapped = {"prompt": "Q", "response_a": "no", "response_b": "yes"}
    assert item_of(PAIR)[0] == item_of(swapped)[0] and item_of(PAIR)[1] != item_of(swapped)[1]
    texts = [two_answers(row)[1:] for row in (PAIR, swapped)]
    assert texts[0] == texts[1][::-1]


@pytest.mark.parametrize("row", [*itertools.starmap(dict, [[PAIR], [PANDA]])])
def test_two_answers_without_a_verdict_are_no_votes(row):
    assert not is_votes(row)
    with pytest.raises(RowError, match="no_verdict"):
        votes_of(row)


@pytest.mark.parametrize(
    ("labels", "is_scale"),
    [((-2, -1, 0, 1, 2), True), ((1, 2, 3, 4, 5), True), ((-1, 0, 1), True), ((1, 2, 0), False), ((1, 2, -1), False)],
)
def test_a_scale_is_refused_since_its_2_is_no_second_answer(labels, is_scale):
    numbers = set().union(*(numbers_of({**PAIR, "preference": label}) for label in labels))
    if is_scale:
        with pytest.raises(DataError, match="the labels are a scale"):
            refuse_scale(numbers, "votes.jsonl")
    else:
        refuse_scale(numbers, "votes.jsonl")
