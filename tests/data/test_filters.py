"""What is dropped before it is tokenised would have been dropped after it, too."""

import pytest
from tests_support import small_tokenizer

from alignflow.data.configs.inputs import PrepareConfig
from alignflow.data.filters import drop_far_too_long, drop_over_long
from alignflow.data.parsing import Kept
from alignflow.data.records import assistant, user
from alignflow.data.rendering import load_tokenizer

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
    early, late = Kept(rows=[row]), Kept(rows=[row])
    drop_far_too_long(early, tokenizer, 128)
    drop_over_long(late, tokenizer, PrepareConfig(max_length=128, max_prompt_length=64))
    assert early.rows == late.rows == [row]
