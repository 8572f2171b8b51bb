"""Lengths of rows are those of the ids that the trainers read."""

import pytest
from tests_support import small_tokenizer

from alignflow.data.records import assistant, user
from alignflow.data.rendering import encode_conversation, encode_prompt, encode_turn, load_tokenizer
from alignflow.data.row_lengths import encoded_lengths


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_tokenizer(small_tokenizer(tmp_path_factory.mktemp("tokenizer")))


CHAT = [*user("question"), *assistant("the answer")]


def test_each_kind_of_row_has_the_length_of_its_ids(tokenizer):
    rows = [
        {"messages": CHAT},
        {"prompt": user("about the thing")},
        {"prompt": user("q"), "chosen": assistant("short"), "rejected": assistant("a much longer answer")},
        {"text": "one two"},
    ]
    found, written = encoded_lengths(rows, range(4), tokenizer)
    ids, supervised = encode_conversation(tokenizer, CHAT)
    longest = encode_turn(tokenizer, user("q"), "a much longer answer", ended=True)
    prompts = [len(encode_prompt(tokenizer, rows[place]["prompt"])) for place in (1, 2)]
    assert written.all()
    assert found.total.tolist() == [len(ids), prompts[0], len(longest.prompt_ids) + len(longest.completion_ids), 0]
    assert found.prompt.tolist() == [supervised.index(True), *prompts, 0]


def test_rows_that_are_not_asked_for_have_no_length(tokenizer):
    found, written = encoded_lengths([{"messages": CHAT}, {"messages": CHAT}], [1], tokenizer)
    assert written.tolist() == [False, True] and found.total[0] == 0 < found.total[1]
