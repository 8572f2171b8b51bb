"""Plain text: a first sentence to continue, unless the text is a conversation."""

import pytest

from alignflow.data.records import assistant, user
from alignflow.data.sources.base import RowError
from alignflow.data.sources.text import parse, split


def test_prompt_and_continuation_are_the_text():
    first, rest = split({"text": "  Who came? A dog! It barked. "})
    assert (first, rest) == ("Who came?", " A dog! It barked.")


def test_a_text_is_a_passage_or_a_prompt():
    assert parse({"text": "One. Two."}, "texts") == [{"text": "One. Two."}]
    assert parse({"text": "One. Two."}, "prompts") == [{"prompt": user("One."), "instructions": None}]


def test_a_conversation_is_not_cut_at_a_sentence():
    raw = {"text": "\n\nHuman: One. Two.\n\nAssistant: a"}
    assert parse(raw, "demonstrations") == [{"messages": [*user("One. Two."), *assistant("a")]}]


def test_one_message_of_several_is_no_text():
    with pytest.raises(RowError, match="one_turn_of_several"):
        parse({"text": "One. Two.", "role": "prompter"}, "demonstrations")
