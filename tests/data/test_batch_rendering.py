"""Many conversations encoded at once have the results of each encoded alone, for every family of chat templates and kind of tokenizer."""

import copy

import pytest
from chat_template_support import CORPUS, FAMILIES, TOKENIZERS, make_tokenizer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alignflow.data.batch_rendering import (
    AT_ONCE,
    encode_answers,
    encode_conversations,
    encode_every_prompt,
    encode_prompts,
)
from alignflow.data.errors import TemplateRefusedError
from alignflow.data.records import assistant, user
from alignflow.data.rendering import encode_prompt, encode_turn, encode_turns

EVERY = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=["-".join(key) for key in TOKENIZERS])
FEW = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
CONTROLS = [
    "<|im_end|>",
    "</s>",
    "<|end|>",
    "<end_of_turn>",
    "<|eot_id|>",
    "<|user|>",
    "<|assistant|>",
    "<|return|>",
    "<SPECIAL_12>",
    "[gMASK]",
]
WORDS = [
    "hello",
    " world",
    "\n",
    "\n\n",
    "  ",
    "é",
    "日本",
    "🙂",
    "\u0301",
    "<think>\nSo.\n</think>\n\n",
    "</think>",
    "[/INST]",
    "42",
    "'s",
    ":",
    *CONTROLS,
]

texts = st.lists(st.sampled_from(WORDS), max_size=5).map("".join)
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


def one_by_one(encode, items):
    """What `encode` returns for each; None where the template refuses one."""

    def found(item):
        try:
            return encode(item)
        except TemplateRefusedError:
            return None

    return [found(item) for item in items]


@EVERY
@FEW
@given(rows=st.lists(conversations(), min_size=1, max_size=5))
def test_conversations_are_those_of_each_alone(tokenizer, rows):
    assert encode_conversations(tokenizer, rows) == one_by_one(lambda row: encode_turns(tokenizer, row), rows)


@EVERY
@FEW
@given(rows=st.lists(st.tuples(conversations(), texts, st.booleans()), min_size=1, max_size=4), sampled=st.booleans())
def test_answers_are_those_of_each_alone(tokenizer, rows, sampled):
    rows = [(messages[:-1], text, ended) for messages, text, ended in rows]
    assert encode_answers(tokenizer, rows, sampled=sampled) == one_by_one(
        lambda row: encode_turn(tokenizer, row[0], row[1], ended=row[2], sampled=sampled), rows
    )


@EVERY
@FEW
@given(rows=st.lists(conversations(), min_size=1, max_size=4))
def test_prompts_are_those_of_each_alone(tokenizer, rows):
    rows = [messages[:-1] for messages in rows]
    assert encode_prompts(tokenizer, rows) == one_by_one(lambda row: encode_prompt(tokenizer, row), rows)


def test_refused_turns_are_none_and_the_order_is_kept():
    tokenizer = TOKENIZERS["gemma", "byte-level"]
    taken, refused = [*user("a"), *assistant("b")], [{"role": "system", "content": "s"}, *user("a"), *assistant("b")]
    found = encode_conversations(tokenizer, [taken, refused, [*user("c"), *assistant("d")], taken])
    assert [row is None for row in found] == [False, True, False, False]
    assert found[0] == found[3] == encode_turns(tokenizer, taken) != found[2]
    assert encode_prompts(tokenizer, [refused[:2], user("a")]) == [None, encode_prompt(tokenizer, user("a"))]
    assert encode_answers(tokenizer, [(refused[:2], "b", True), (user("a"), "b", True)])[0] is None


def test_every_prompt_raises_what_one_alone_raises():
    tokenizer, refused = TOKENIZERS["gemma", "byte-level"], [{"role": "system", "content": "s"}, *user("a")]
    assert encode_every_prompt(tokenizer, [user("a"), user("b")]) == [
        encode_prompt(tokenizer, user(text)) for text in "ab"
    ]
    with pytest.raises(TemplateRefusedError) as alone:
        encode_prompt(tokenizer, refused)
    with pytest.raises(TemplateRefusedError) as found:
        encode_every_prompt(tokenizer, [user("a"), refused])
    assert str(found.value) == str(alone.value)


def test_more_conversations_than_are_held_at_once():
    tokenizer = TOKENIZERS["qwen2.5", "byte-level"]
    rows = [[*user(f"hello {index % 400}"), *assistant(f"world {index}")] for index in range(AT_ONCE + 60)]
    assert encode_conversations(tokenizer, rows) == [encode_turns(tokenizer, row) for row in rows]


def test_equal_prompts_are_written_once(monkeypatch):
    tokenizer, written = make_tokenizer(FAMILIES["llama3"], "byte-level"), []
    inner = type(tokenizer).apply_chat_template

    def counting(self, conversation, **kwargs):
        written.extend(conversation if kwargs["add_generation_prompt"] else ())
        return inner(self, conversation, **kwargs)

    encode_answers(tokenizer, [(user("hello"), "a", True)])
    monkeypatch.setattr(type(tokenizer), "apply_chat_template", counting)
    found = encode_answers(tokenizer, [(user("hello"), text, True) for text in ("one", "two", "three")])
    assert written == [user("hello")]
    assert len({tuple(turn.completion_ids) for turn in found}) == 3


def test_no_conversation_without_an_assistant_turn():
    with pytest.raises(ValueError, match="no assistant turn"):
        encode_conversations(TOKENIZERS["llama3", "byte-level"], [user("a")])


def test_nothing_to_encode():
    tokenizer = TOKENIZERS["llama3", "byte-level"]
    assert encode_conversations(tokenizer, []) == encode_answers(tokenizer, []) == encode_prompts(tokenizer, []) == []


def test_messages_with_more_than_a_text_are_written_with_all_that_they_have():
    tokenizer = make_tokenizer(FAMILIES["llama3"], "byte-level")
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "m.content | trim", "(m.reasoning_content or '') + m.content"
    )
    rows = [
        [*user("hello"), {**assistant("world")[0], "reasoning_content": "Answer"}],
        [*user("hello"), *assistant("world")],
    ]
    found = encode_conversations(tokenizer, rows)
    assert found == [encode_turns(tokenizer, row) for row in rows]
    assert found[0] != found[1]


def test_a_tokenizer_that_was_left_cutting_texts_cuts_none_here():
    tokenizer = copy.deepcopy(TOKENIZERS["llama3", "byte-level"])
    rows = [[*user(CORPUS[0]), *assistant(CORPUS[0])]]
    expected = [encode_turns(tokenizer, row) for row in rows]
    tokenizer._tokenizer.enable_truncation(4)
    tokenizer._tokenizer.enable_padding(length=300)
    tokenizer("<|eot_id|>", split_special_tokens=True)
    tokenizer._tokenizer.enable_truncation(4)
    assert encode_conversations(tokenizer, rows) == expected
