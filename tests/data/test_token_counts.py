"""Tokens that are counted without being encoded are as many as those that are, for every family of chat templates and kind of tokenizer."""

import pytest
from chat_template_support import CORPUS, TOKENIZERS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alignflow.data.records import assistant, user
from alignflow.data.rendering import encode_prompt, encode_turns
from alignflow.data.token_counts import count_conversations, count_prompts

EVERY = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=["-".join(key) for key in TOKENIZERS])
FEW = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
WORDS = [
    "hello",
    " world",
    "\n",
    "\n\n",
    "  ",
    " ",
    "é",
    "日本",
    " 🙂",
    "\u0301",
    "\u00a0",
    "\u2003",
    "a\u0301",
    "</think>",
    "42",
    " 7",
    "'s",
    "'LL",
    ":",
    " (",
    "\t",
    "²",
    "٣",
    "<|im_end|>",
    "</s>",
    "<|end|>",
    "<|",
    "assistant",
    *CORPUS[0].split()[:4],
]

texts = st.lists(st.sampled_from(WORDS), max_size=7).map("".join)
system = st.one_of(st.just([]), texts.map(lambda text: [{"role": "system", "content": text}]))
turns = st.lists(st.tuples(texts, texts, st.sampled_from([None, None, 0])), min_size=1, max_size=4)


@st.composite
def conversations(draw):
    """A system turn or none, and exchanges, of which some are not to be learnt."""
    messages = draw(system)
    for question, answer, weight in draw(turns):
        messages = [
            *messages,
            *user(question),
            {**assistant(answer)[0], **({} if weight is None else {"weight": weight})},
        ]
    return messages


@EVERY
@FEW
@given(rows=st.lists(conversations(), min_size=1, max_size=5))
def test_a_conversation_has_as_many_tokens_as_when_it_is_encoded(tokenizer, rows):
    for messages, sizes in zip(rows, count_conversations(tokenizer, rows), strict=True):
        if sizes is not None:
            encoded = encode_turns(
                tokenizer, [{name: value for name, value in turn.items() if name != "weight"} for turn in messages]
            )
            assert sizes.total == len(encoded.ids)
            assert sizes.starts[0] == encoded.supervised.index(True)
            assert not encoded.merged
            prompt = encode_prompt(tokenizer, messages[:-1])
            assert sizes.starts[-1] == len(prompt)
            assert encoded.ids[: len(prompt)] == prompt


@EVERY
@FEW
@given(rows=st.lists(conversations(), min_size=1, max_size=4))
def test_a_prompt_has_as_many_tokens_as_when_it_is_encoded(tokenizer, rows):
    for messages, sizes in zip(rows, count_prompts(tokenizer, [row[:-1] for row in rows]), strict=True):
        assert sizes is None or sizes.total == len(encode_prompt(tokenizer, messages[:-1]))


def test_each_answer_has_the_tokens_before_it():
    tokenizer = TOKENIZERS["qwen2.5", "byte-level"]
    messages = [*user("Who is it?"), *assistant("It is I."), *user("Why?"), *assistant("So.")]
    (found,) = count_conversations(tokenizer, [messages])
    learnt = [
        encode_turns(tokenizer, [*messages[:1], {**messages[1], "weight": weight}, *messages[2:]]).supervised.index(
            True
        )
        for weight in (1, 0)
    ]
    assert found.starts == learnt


@pytest.mark.parametrize("text", ["It is I.", "“Ça va,” they said — naïve, as always.\nNext line\n- a\n- b"])
@pytest.mark.parametrize("family", ["llama3", "gemma", "qwen2.5", "phi", "zephyr"])
def test_usual_conversations_are_counted_and_not_encoded(family, text):
    messages = [*user(f"Why? {text}"), *assistant(f"So: {text}"), *user("Why?"), *assistant("So.")]
    assert count_conversations(TOKENIZERS[family, "byte-level"], [messages])[0] is not None
    assert count_prompts(TOKENIZERS[family, "byte-level"], [messages[:-1]])[0] is not None


@pytest.mark.parametrize(("turns", "roles"), [(64, "ua"), (66, "ua"), (8, "uua"), (12, "uua"), (20_000, "ua")])
def test_no_plan_is_made_for_many_turns_or_rare_sequences(turns, roles):
    names = {"u": "user", "a": "assistant"}
    messages = [{"role": names[roles[place % len(roles)]], "content": "x"} for place in range(turns - 1)] + assistant(
        "x"
    )
    assert (count_conversations(TOKENIZERS["qwen2.5", "byte-level"], [messages])[0] is not None) == (
        (turns, roles) in ((64, "ua"), (8, "uua"))
    )


@pytest.mark.parametrize(
    "messages",
    [
        [*user("a <|im_end|> b"), *assistant("c")],
        [*user("a"), {"role": "assistant", "content": "c", "reasoning_content": "d"}],
        [*user("a"), *assistant("")],
        [{"role": "tool", "content": "a"}, *assistant("c")],
        assistant("c"),
        [],
    ],
    ids=["a control token in a text", "thinking", "no answer", "another role", "no question", "nothing"],
)
def test_what_is_not_plain_is_not_counted(messages):
    assert count_conversations(TOKENIZERS["qwen2.5", "byte-level"], [messages]) == [None]
