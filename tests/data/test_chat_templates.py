"""What a chat template writes, with fixed values and dates."""

from datetime import datetime

import pytest
from tests_support import small_tokenizer

from alignflow.data.chat_templates import asks_for_date, change_template, with_arguments, with_date, write_conversation
from alignflow.data.errors import TemplateRefusedError
from alignflow.data.records import assistant, user
from alignflow.data.rendering import load_tokenizer


@pytest.fixture
def tokenizer(tmp_path):
    return load_tokenizer(small_tokenizer(tmp_path))


def written(tokenizer, template, messages=None):
    tokenizer.chat_template = template
    return write_conversation(tokenizer, messages or user("q"), False)


def test_a_conversation_is_what_the_template_writes(tokenizer):
    assert (
        written(
            tokenizer, "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}", [*user("q"), *assistant("a")]
        )
        == "[user]q[assistant]a"
    )


def test_turns_that_a_template_refuses_are_named(tokenizer):
    with pytest.raises(TemplateRefusedError, match="user.*no users"):
        written(tokenizer, "{{ raise_exception('no users') }}")


@pytest.mark.parametrize(("value", "text"), [(False, "False"), (None, "None"), ("a'b", "a'b"), (3, "3")])
def test_a_fixed_value_stands_for_its_variable(tokenizer, value, text):
    assert written(tokenizer, with_arguments("{{ thinking }}", {"thinking": value})) == text


def test_a_fixed_date_is_written_on_every_day(tokenizer):
    template = "{{ strftime_now('%d %B %Y') }}"
    assert asks_for_date(template) and not asks_for_date("{{ messages }}")
    fixed = with_date(template, datetime(2024, 2, 3))
    assert written(tokenizer, fixed) == "03 February 2024" and not asks_for_date(fixed)


def test_each_of_several_templates_is_changed(tokenizer):
    tokenizer.chat_template = {"default": "a", "tools": "b"}
    change_template(tokenizer, str.upper)
    assert tokenizer.chat_template == {"default": "A", "tools": "B"}
