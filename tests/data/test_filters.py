"""What is dropped before it is tokenised would have been dropped after it, too; of equal rows the first one stays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests_support import small_tokenizer

from alignflow.data.byte_bounds import longest_bytes
from alignflow.data.filters import contradictory, repeated
from alignflow.data.records import assistant, user
from alignflow.data.rendering import load_tokenizer
from alignflow.data.row_lengths import encoded_lengths
from alignflow.data.row_texts import is_far_too_long

TRIMS = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] | trim }}"
    "{% if message['role'] == 'assistant' %}<|end|>{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture
def tokenizer(tmp_path):
    found = load_tokenizer(small_tokenizer(tmp_path))
    found.chat_template = TRIMS
    return found


@pytest.mark.parametrize("blanks", [0, 20, 200_000])
def test_what_a_template_trims_does_not_count(tokenizer, blanks):
    row = {"messages": [*user("a question" + " " * blanks), *assistant("an answer")]}
    lengths, written = encoded_lengths([row], [0], tokenizer)
    assert not is_far_too_long(row, longest_bytes(tokenizer, 128)) and written[0] and 0 < lengths.total[0] <= 128


@given(st.lists(st.integers(0, 5), max_size=40))
def test_all_but_the_first_of_equal_digests_are_repeated(numbers):
    digests = np.array([[number % 2, number // 2] for number in numbers], dtype=np.uint64).reshape(-1, 2)
    assert repeated(digests).tolist() == [number in numbers[:place] for place, number in enumerate(numbers)]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), max_size=40))
def test_rows_of_one_digest_that_mean_different_things_are_contradictory(rows):
    digests = np.array([[number % 2, number // 2] for number, _ in rows], dtype=np.uint64).reshape(-1, 2)
    found = contradictory(digests, np.array([meant for _, meant in rows], dtype=np.uint64))
    assert found.tolist() == [
        any(number == other and meant != another for other, another in rows) for number, meant in rows
    ]
