"""A conversation as one text in the column `text`."""

import pytest

from alignflow.data.records import assistant, user
from alignflow.data.sources.base import RowError
from alignflow.data.sources.transcript import parse

TEXT = "### Human: q### Assistant: a"


def test_it_is_a_demonstration_or_a_prompt_in_its_context():
    system = [{"role": "system", "content": "s"}]
    assert parse({"text": TEXT, "system": "s"}, "demonstrations") == [
        {"messages": [*system, *user("q"), *assistant("a")]}
    ]
    assert parse({"text": TEXT}, "prompts") == [{"prompt": user("q"), "instructions": None}]


def test_a_text_that_is_no_conversation_has_a_reason():
    with pytest.raises(RowError, match="no_transcript"):
        parse({"text": "One. Two."}, "demonstrations")
