"""Kinds of tables as ids: what a trainer reads of a row."""

import pytest
from tests_support import small_tokenizer

from alignflow.data.encoded_kinds import (
    NO_ANSWER,
    each_completion,
    encode_completions,
    encode_demonstrations,
    encode_preferences,
)
from alignflow.data.records import assistant, user
from alignflow.data.rendering import encode_turn, load_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_tokenizer(small_tokenizer(tmp_path_factory.mktemp("tokenizer")))


def test_a_conversation_is_divided_before_its_first_supervised_token(tokenizer):
    turns = [*user("question"), *assistant("a"), *user("more"), *assistant("b")]
    turns[1]["weight"] = 0
    (answer,), (nothing,) = encode_demonstrations(tokenizer, [{"messages": turns}, {"messages": user("q")}])
    assert nothing == NO_ANSWER and all(answer.mask)
    assert tokenizer.decode(answer.completion_ids) == "b<|end|>"


def test_an_answer_that_was_cut_has_no_end(tokenizer):
    row = {
        "prompt": user("q"),
        "chosen": assistant("a"),
        "rejected": assistant("b"),
        "chosen_ended": True,
        "rejected_ended": False,
    }
    ((chosen, rejected),) = encode_preferences(tokenizer, [row])
    assert tokenizer.decode(chosen.completion_ids) == "a<|end|>" and tokenizer.decode(rejected.completion_ids) == "b"
    (single,) = encode_completions(tokenizer, [{"prompt": user("q"), "completion": assistant("a"), "ended": None}])[0]
    turn = encode_turn(tokenizer, user("q"), "a", ended=True)
    assert (list(single.prompt_ids), list(single.completion_ids)) == (turn.prompt_ids, turn.completion_ids)


def test_a_ranking_is_as_many_rows_as_it_has_answers():
    row = {"id": "r", "prompt": user("q"), "completions": ["a", "b"], "scores": [1.0, 2.0], "ended": None}
    first, second = each_completion(row)
    assert (first["place"], second["place"], second["score"], second["ended"]) == (0, 1, 2.0, None)
    assert [made["ended"] for made in each_completion({**row, "ended": [True, False]})] == [True, False]
