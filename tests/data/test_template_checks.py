"""What init says of a chat template, what it refuses, and what it writes into one."""

from datetime import datetime

import pytest
from chat_template_support import FAMILIES, TOKENIZERS, make_tokenizer

from alignflow.data.chat_templates import TEMPLATES, asks_for_date, with_arguments, with_date, write_conversation
from alignflow.data.errors import ModelError
from alignflow.data.records import assistant, user
from alignflow.data.template_checks import check_template, refused

CHATML = TEMPLATES["chatml"]
SYSTEM = [{"role": "system", "content": "be kind"}]
SAYS = {
    "llama2": ["it trims the blanks"],
    "llama3": ["not with EOS", "it trims"],
    "gemma": ["not with EOS", "takes no system turn", "it trims"],
    "mistral": ["it trims"],
    "qwen2.5": ["not with EOS"],
    "qwen3": ["begins with '<think>", "otherwise", "earlier answers"],
    "qwen3.5": ["begins with '\\n</think>", "otherwise", "earlier answers"],
    "phi": ["not with EOS"],
    "deepseek": ["the generation prompt '<|Assistant|><think>\\n' is not how", "thinking of every answer"],
    "glm": ["not with EOS"],
    "nemotron": ["not with EOS", "is not how", "thinking of every answer", "it trims"],
    "gpt-oss": ["begins with '<|channel|>final", "others follow with '<|end|>'"],
    "cohere": ["it trims"],
    "zephyr": [],
}


def chatml(template):
    tokenizer = make_tokenizer(FAMILIES["qwen2.5"], "byte-level")
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_one_line_says_each_thing_that_a_template_does(name):
    lines = check_template(TOKENIZERS[name, "byte-level"], "model")
    said = SAYS[name]
    assert len(lines) == len(said) and all(part in line for part, line in zip(said, lines, strict=True)), lines


def test_a_template_without_a_header_for_the_answer_is_refused():
    with pytest.raises(ModelError, match="ignores add_generation_prompt.*assistant"):
        check_template(chatml(CHATML.partition("{% if add_generation_prompt")[0]), "model")


def test_a_template_that_ends_no_turn_is_refused():
    with pytest.raises(ModelError, match="does not end an assistant's turn"):
        check_template(
            chatml(
                "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}{{ 'assistant: ' if add_generation_prompt }}"
            ),
            "m",
        )


def test_a_conversation_that_the_template_refuses_or_cuts_is_told():
    assert refused(TOKENIZERS["gemma", "byte-level"], [*SYSTEM, *user("q")])
    assert not refused(TOKENIZERS["llama3", "byte-level"], [*SYSTEM, *user("q"), *assistant("a")])
    assert refused(
        chatml("{{ messages[-1]['content'] + '<|im_end|>' }}"), [*user("one"), *assistant("two"), *user("three")]
    )


def test_arguments_are_written_into_a_template():
    tokenizer = make_tokenizer(FAMILIES["qwen3"], "byte-level")
    plain = write_conversation(tokenizer, user("q"), True)
    tokenizer.chat_template = with_arguments(tokenizer.chat_template, {"enable_thinking": False})
    assert write_conversation(tokenizer, user("q"), True) == plain + "<think>\n\n</think>\n\n"


@pytest.mark.parametrize("value", [None, True, 3, 0.5, 'a "quoted" \\ text\nin é 🎉 {% raw %}', "{{ 1 }}"])
def test_an_argument_arrives_as_it_was_given(value):
    template = with_arguments(
        "\n{{ messages[0].content if given == wanted else 'lost' }}<|im_end|>", {"given": value, "wanted": value}
    )
    shown = with_arguments("{{ given }}", {"given": value})
    assert write_conversation(chatml(template), user("kept"), False) == "\nkept<|im_end|>"
    assert write_conversation(chatml(shown), user("q"), False) == str(value)


def test_the_date_that_a_template_writes_stays_the_day_on_which_it_was_taken_in():
    template = TOKENIZERS["gpt-oss", "byte-level"].chat_template
    fixed = with_date(template, datetime(2026, 11, 29))
    assert asks_for_date(template) and not asks_for_date(fixed) and "2026-11-29" in fixed
    with pytest.raises(ModelError, match="format that it computes"):
        with_date("{{ strftime_now(form) }}", datetime(2026, 11, 29))


def test_a_template_of_one_turn_is_said_and_taken():
    once = chatml("{% if messages | length > 2 %}{{ raise_exception('one turn') }}{% endif %}" + CHATML)
    assert any("refuses, or leaves out, a second turn" in line for line in check_template(once, "model"))


def test_a_template_that_writes_the_same_tail_with_and_without_a_generation_prompt_is_refused():
    with pytest.raises(ModelError, match="ignores add_generation_prompt"):
        check_template(chatml(CHATML.partition("{% if add_generation_prompt")[0] + "{{ eos_token }}"), "model")


def test_an_end_that_differs_where_others_follow_is_said():
    differing = [
        name
        for name in FAMILIES
        if any(
            "and one that others follow with" in line
            for line in check_template(TOKENIZERS[name, "byte-level"], "model")
        )
    ]
    assert differing == ["gpt-oss"]
    line = next(
        line for line in check_template(TOKENIZERS["gpt-oss", "byte-level"], "model") if "others follow" in line
    )
    assert line == "it ends an answer with '<|return|>', and one that others follow with '<|end|>'"


def test_a_template_that_ends_the_last_answer_alone_is_told():
    """Of a conversation with several turns the earlier ones then teach no end."""
    turns = "{% for m in messages %}{{ m.role + ': ' + m.content + ('<|im_end|>' if loop.last and m.role == 'assistant' else '') + '\n' }}{% endfor %}"
    template = chatml(turns + "{{ 'assistant: ' if add_generation_prompt }}")
    assert any(
        "that others follow with nothing: its end is not learnt" in line for line in check_template(template, "m")
    )
