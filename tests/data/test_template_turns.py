"""Earlier turns of a conversation are found in one text with marks where that gives what is found turn by turn."""

import pytest
from chat_template_support import TOKENIZERS
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import alignflow.data.template_turns as template_turns
from alignflow.data.errors import TemplateRefusedError
from alignflow.data.records import assistant, user
from alignflow.data.template_turns import earlier_turns, turn_in, write_shielded

BYTE_LEVEL = {name: found for (name, kind), found in TOKENIZERS.items() if kind == "byte-level"}
EVERY = pytest.mark.parametrize("tokenizer", BYTE_LEVEL.values(), ids=BYTE_LEVEL)
WORDS = [
    "hello",
    " world",
    "\n",
    "  ",
    "é",
    "<think>\nSo.\n</think>\n\n",
    "</think>",
    "[/INST]",
    "</s>",
    "<|im_end|>",
    "<|assistant|>\n",
    "x1y",
    "\ue100",
]
texts = st.lists(st.sampled_from(WORDS), max_size=5).map("".join)


@st.composite
def conversations(draw):
    """A system turn or none, then exchanges, and now and then two turns of one role."""
    messages = [{"role": "system", "content": text} for text in draw(st.lists(texts, max_size=1))]
    for _ in range(draw(st.integers(2, 4))):
        messages += [*user(draw(texts)), *assistant(draw(texts))]
        messages += assistant(draw(texts)) if draw(st.integers(0, 9)) == 0 else []
    return messages


@EVERY
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@example(messages=[{"role": "system", "content": ""}, *user("a"), *assistant("b"), *user("c"), *assistant("d")])
@given(messages=conversations())
def test_turns_are_those_found_one_by_one(tokenizer, messages):
    places = [index for index, message in enumerate(messages[:-1]) if message["role"] == "assistant"]
    try:
        whole = write_shielded(tokenizer, messages, False)
    except TemplateRefusedError:
        return
    assert earlier_turns(tokenizer, messages, places, whole) == [
        turn_in(tokenizer, messages, place, whole) for place in places
    ]


@EVERY
@pytest.mark.parametrize("answer", ["hello world", "  hello \n"])
def test_a_long_conversation_is_written_as_often_as_a_short_one(tokenizer, monkeypatch, answer):
    inner, written = template_turns.write_conversation, []

    def counting(*args):
        written.append(args)
        return inner(*args)

    monkeypatch.setattr(template_turns, "write_conversation", counting)

    def times(exchanges):
        messages = [
            turn
            for number in range(exchanges)
            for turn in (*user(f"What is {number}?"), *assistant(f"{answer}{number}"))
        ]
        whole = write_shielded(tokenizer, messages, False)
        places = list(range(1, len(messages) - 1, 2))
        earlier_turns(tokenizer, messages, places, whole)  # what is remembered of these roles
        written.clear()
        earlier_turns(tokenizer, messages, places, whole)
        return len(written)

    assert times(20) == times(4) == 1
