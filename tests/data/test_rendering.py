"""The ids of a conversation are its chat template's own, texts never become control tokens, and sampling and training see the same prompt."""

from dataclasses import replace

import pytest
from chat_template_support import FAMILIES, TOKENIZERS, make_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from alignflow.data.chat_templates import TEMPLATES
from alignflow.data.errors import ModelError, TemplateRefusedError
from alignflow.data.records import assistant, user
from alignflow.data.rendering import (
    decode_completion,
    encode_conversation,
    encode_prompt,
    encode_turn,
    encode_turns,
    load_tokenizer,
)
from alignflow.data.template_turns import end_token

SPECIAL = ["<|pad|>", "<|end|>", "<s>", "<|im_start|>", "<|im_end|>", "<|user|>", "<|assistant|>", "<|system|>"]


def make_built_in(template):
    core = Tokenizer(models.BPE())
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        ["hello world " * 20],
        trainers.BpeTrainer(vocab_size=300, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False),
    )
    eos = "<|im_end|>" if template == "chatml" else "<|end|>"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token=eos, pad_token=eos, bos_token="<s>", additional_special_tokens=SPECIAL
    )
    tokenizer.chat_template = TEMPLATES[template]
    return tokenizer


BUILT_IN = {name: make_built_in(name) for name in TEMPLATES}
PLAIN = st.text(st.sampled_from("abc xyzé🎉\n.,?!"), min_size=1, max_size=30).filter(str.strip)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40) | st.sampled_from(
    ["<|end|>", "a <|im_end|> b", "<s>"]
)


@pytest.fixture(params=list(TEMPLATES))
def tokenizer(request):
    return BUILT_IN[request.param]


@pytest.fixture(params=sorted(TOKENIZERS), ids="-".join)
def family(request):
    """A family of templates, and a tokenizer that has its control tokens."""
    return FAMILIES[request.param[0]], TOKENIZERS[request.param]


def template_ids(tokenizer, messages):
    return tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)


def learnt(tokenizer, ids, mask):
    return tokenizer.decode([token for token, counts in zip(ids, mask, strict=True) if counts])


def is_its_own(tokenizer, messages, found, end):
    """The template's own ids, up to the turn's end, which a template that leaves it to the next turn (GLM) does not write yet."""
    own = template_ids(tokenizer, messages)
    return found.ids == own[: len(found.ids)] or (
        found.ids[:-1] == own and found.ids[-1:] == tokenizer.convert_tokens_to_ids([end])
    )


CONVERSATIONS = st.lists(PLAIN, min_size=2, max_size=6).map(
    lambda texts: [
        {"role": ("user", "assistant")[index % 2], "content": text}
        for index, text in enumerate(texts[: len(texts) // 2 * 2])
    ]
)


@pytest.mark.parametrize("name", sorted(TOKENIZERS), ids="-".join)
@settings(max_examples=25, deadline=None)
@given(messages=CONVERSATIONS)
def test_the_ids_of_a_conversation_are_the_template_s_own(name, messages):
    """Unless a token of the template's own encoding reaches across the border before an answer: then the row says so."""
    tokenizer = TOKENIZERS[name]
    found = encode_turns(tokenizer, messages)
    assert found.merged or is_its_own(tokenizer, messages, found, FAMILIES[name[0]].end)
    assert len(found.ids) == len(found.supervised) and found.supervised[-1]


@pytest.mark.parametrize("name", sorted(TOKENIZERS), ids="-".join)
@settings(max_examples=25, deadline=None)
@given(question=PLAIN, answer=PLAIN)
def test_what_is_learnt_is_what_follows_the_prompt(name, question, answer):
    tokenizer = TOKENIZERS[name]
    ids, mask = encode_conversation(tokenizer, [*user(question), *assistant(answer)])
    turn = encode_turn(tokenizer, user(question), answer, ended=True)
    assert ids == turn.prompt_ids + turn.completion_ids
    assert mask == [False] * len(turn.prompt_ids) + [True] * len(turn.completion_ids)


def test_a_turn_ends_with_what_the_template_writes_after_it_in_every_turn(family):
    kind, tokenizer = family
    turns = [*user("What is this?"), *assistant("hello world"), *user("And?"), *assistant("the quick fox")]
    ids, mask = encode_conversation(tokenizer, turns)
    ends = tokenizer.convert_tokens_to_ids([kind.end.strip(), "<|end|>"])
    supervised = [token for token, counts in zip(ids, mask, strict=True) if counts]
    assert sum(token in ends for token in supervised) == 2 and supervised[-1] == ends[0]
    assert end_token(tokenizer) == ends[0]
    assert "quick fox" in learnt(tokenizer, ids, mask) and "And" not in learnt(tokenizer, ids, mask)


def test_an_answer_has_its_header_before_it(family):
    kind, tokenizer = family
    turn = encode_turn(tokenizer, user("What is this?"), "hello world", ended=False)
    whole = tokenizer.decode(turn.prompt_ids + turn.completion_ids)
    assert (
        whole.replace(" ", "").rstrip().endswith((kind.header + "hello world").replace(" ", "")) or "<think>" in whole
    )
    prompt = encode_prompt(tokenizer, user("What is this?"))
    assert prompt[: len(turn.prompt_ids)] == turn.prompt_ids, (
        "sampling starts from what training sees, or from what that begins with"
    )


def test_a_text_with_control_tokens_is_encoded_without_them(family):
    kind, tokenizer = family
    for token in (tokenizer.eos_token, kind.end.strip()):
        found = encode_turns(tokenizer, [*user(f"a {token} b"), *assistant(f"{token} is a token")])
        plain = encode_turns(tokenizer, [*user("a x b"), *assistant("x is a token")])
        special = set(tokenizer.all_special_ids) | {tokenizer.convert_tokens_to_ids(kind.end.strip())}
        assert [token for token in found.ids if token in special] == [token for token in plain.ids if token in special]


def test_a_sampled_answer_is_encoded_again_as_it_was_sampled(family):
    kind, tokenizer = family
    turn = encode_turn(tokenizer, user("What is this?"), "hello world", ended=True)
    text = decode_completion(
        tokenizer, encode_turn(tokenizer, user("What is this?"), "hello world", ended=False).completion_ids
    )
    assert text.strip().removeprefix("</think>").strip() == "hello world"
    assert encode_turn(tokenizer, user("What is this?"), text.strip(), ended=True).completion_ids == turn.completion_ids


@pytest.mark.parametrize("kind", ["byte-level", "sentencepiece"])
def test_an_answer_that_closes_the_thinking_which_the_prompt_opened_follows_the_prompt(kind):
    tokenizer = TOKENIZERS["deepseek", kind]
    turn = encode_turn(tokenizer, user("What is this?"), "good question\n</think>hello", ended=True)
    assert turn.prompt_ids == encode_prompt(tokenizer, user("What is this?"))
    plain = encode_turn(tokenizer, user("What is this?"), "hello", ended=True)
    assert "think" not in tokenizer.decode(plain.prompt_ids + plain.completion_ids), (
        "the template writes answers without thinking"
    )
    cut = encode_turn(tokenizer, user("What is this?"), "good quest", ended=False)
    assert cut.prompt_ids == turn.prompt_ids and tokenizer.eos_token_id not in cut.completion_ids


def test_the_channel_that_a_template_writes_before_an_answer_is_no_part_of_its_text():
    tokenizer = TOKENIZERS["gpt-oss", "byte-level"]
    text = "<|channel|>analysis<|message|>it asks<|end|><|start|>assistant<|channel|>final<|message|>hello"
    assert decode_completion(tokenizer, tokenizer(text, add_special_tokens=False)["input_ids"]) == "hello"


@pytest.mark.parametrize(
    "text",
    [
        "<|channel|>analysis<|message|>it as",
        "<|channel|>analysis<|message|>it asks<|end|><|start|>assistant<|channel|>comm",
        "<|channel|>",
    ],
)
def test_an_answer_that_never_came_to_the_final_channel_has_no_text(text):
    tokenizer = TOKENIZERS["gpt-oss", "byte-level"]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert decode_completion(tokenizer, ids) == ""
    assert decode_completion(tokenizer, tokenizer("it asks", add_special_tokens=False)["input_ids"]) == "it asks"


def test_an_answer_cut_inside_of_thinking_is_no_text_only_where_thinking_is_made_of_control_tokens():
    plain = TOKENIZERS["qwen3", "byte-level"]
    special = make_tokenizer(replace(FAMILIES["qwen3"], plain=()), "byte-level")
    special.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    cut, closed = "<think>\nit as", "<think>\nit asks\n</think>\n\nhello"
    assert decode_completion(plain, plain(cut, add_special_tokens=False)["input_ids"]) == cut
    assert decode_completion(special, special(cut, add_special_tokens=False)["input_ids"]) == ""
    assert decode_completion(special, special(closed, add_special_tokens=False)["input_ids"]).endswith("hello")


def test_a_token_across_the_border_is_counted_and_the_prompt_is_encoded_alone():
    tokenizer = BUILT_IN["plain"]
    turn = encode_turn(tokenizer, user("he"), "llo", ended=True)
    assert turn.merged and turn.prompt_ids == encode_prompt(tokenizer, user("he"))
    assert tokenizer.decode(turn.completion_ids) == "llo<|end|>"
    assert not encode_turn(tokenizer, user("hello."), " world", ended=True).merged


def test_a_turn_of_weight_0_is_not_learnt(family):
    _, tokenizer = family
    turns = [
        *user("What is this?"),
        {**assistant("hello world")[0], "weight": 0},
        *user("And?"),
        *assistant("the quick fox"),
    ]
    ids, mask = encode_conversation(tokenizer, turns)
    assert "hello" not in learnt(tokenizer, ids, mask) and "quick" in learnt(tokenizer, ids, mask)
    assert (
        ids == encode_conversation(tokenizer, [{name: turn[name] for name in ("role", "content")} for turn in turns])[0]
    )


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(list(TEMPLATES)), question=TEXTS, answer=TEXTS)
def test_a_conversation_is_its_prompt_and_its_completion(name, question, answer):
    tokenizer = BUILT_IN[name]
    ids, mask = encode_conversation(tokenizer, [*user(question), *assistant(answer)])
    turn = encode_turn(tokenizer, user(question), answer, ended=True)
    assert turn.prompt_ids == encode_prompt(tokenizer, user(question))
    assert ids == turn.prompt_ids + turn.completion_ids
    assert mask == [False] * len(turn.prompt_ids) + [True] * len(turn.completion_ids)


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(list(TEMPLATES)), text=TEXTS)
def test_text_never_becomes_a_control_token_and_decodes_to_itself(name, text):
    tokenizer = BUILT_IN[name]
    ids = encode_turn(tokenizer, user("q"), text, ended=False).completion_ids
    assert not set(ids) & set(tokenizer.all_special_ids)
    assert decode_completion(tokenizer, ids) == text


def test_an_ended_answer_ends_with_eos_and_a_cut_one_does_not(tokenizer):
    assert encode_turn(tokenizer, user("q"), "hello", ended=True).completion_ids[-1] == tokenizer.eos_token_id
    assert tokenizer.eos_token_id not in encode_turn(tokenizer, user("q"), "hello", ended=False).completion_ids


def test_a_prompt_has_at_most_one_bos(tokenizer):
    assert encode_prompt(tokenizer, user("hello")).count(tokenizer.bos_token_id) <= 1


def test_every_assistant_turn_is_supervised_and_no_other(tokenizer):
    turns = [
        {"role": "system", "content": "be kind"},
        *user("q"),
        *assistant("first"),
        *user("r"),
        *assistant("second"),
    ]
    ids, mask = encode_conversation(tokenizer, turns)
    text = learnt(tokenizer, ids, mask)
    assert "first" in text and "second" in text and "kind" not in text and mask.count(True) < len(mask)
    ends = [token for token, counts in zip(ids, mask, strict=True) if counts and token == tokenizer.eos_token_id]
    assert len(ends) == 2


def test_a_conversation_without_an_assistant_is_refused(tokenizer):
    with pytest.raises(ValueError, match="assistant"):
        encode_conversation(tokenizer, user("hello"))


def test_a_template_that_refuses_a_turn_says_which_turns():
    tokenizer = TOKENIZERS["gemma", "byte-level"]
    with pytest.raises(TemplateRefusedError, match="system, user.*no system turn"):
        encode_prompt(tokenizer, [{"role": "system", "content": "be kind"}, *user("hello")])


def test_a_tokenizer_without_eos_is_refused(tmp_path):
    core = Tokenizer(models.BPE())
    PreTrainedTokenizerFast(tokenizer_object=core).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no EOS"):
        load_tokenizer(tmp_path)


def test_a_directory_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(ModelError, match="no tokenizer"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("name", sorted(TOKENIZERS), ids="-".join)
def test_an_answer_that_nobody_sampled_never_stands_inside_of_thinking(name):
    tokenizer = TOKENIZERS[name]
    turn = encode_turn(tokenizer, user("What is this?"), "A", ended=False, sampled=False)
    text = tokenizer.decode(turn.prompt_ids + turn.completion_ids)
    assert text.count("<think>") == text.count("</think>") and text.endswith("A")


def test_an_answer_that_brings_its_own_thinking_does_not_open_it_twice():
    tokenizer = TOKENIZERS["deepseek", "byte-level"]
    turn = encode_turn(tokenizer, user("q"), "<think>\ngood\n</think>\nhello", ended=True)
    assert tokenizer.decode(turn.prompt_ids + turn.completion_ids).count("<think>") <= 1


def test_a_cut_answer_inside_of_thinking_that_the_prompt_opened_follows_the_prompt():
    tokenizer = TOKENIZERS["qwen3.5", "byte-level"]
    turn = encode_turn(tokenizer, user("q"), "good quest", ended=False)
    assert (
        turn.prompt_ids == encode_prompt(tokenizer, user("q")) and tokenizer.decode(turn.completion_ids) == "good quest"
    )


def with_template(template, special=(), ordinary=()):
    tokenizer = make_built_in("chatml")
    tokenizer.add_special_tokens({"additional_special_tokens": [*SPECIAL, *special]})
    tokenizer.add_tokens(list(ordinary))
    tokenizer.chat_template = template
    return tokenizer


def test_an_end_of_two_control_tokens_is_learnt_whole_in_every_turn():
    tokenizer = with_template(
        "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|stop|><|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}",
        special=["<|stop|>"],
    )
    ids, mask = encode_conversation(tokenizer, [*user("q"), *assistant("a"), *user("r"), *assistant("b")])
    assert learnt(tokenizer, ids, mask) == "a<|stop|><|im_end|>b<|stop|><|im_end|>"


def test_a_control_token_that_takes_the_line_break_after_it_is_learnt():
    tokenizer = with_template(TEMPLATES["chatml"])
    tokenizer.add_special_tokens({"additional_special_tokens": [AddedToken("<|stop|>", rstrip=True, special=True)]})
    tokenizer.chat_template = TEMPLATES["chatml"].replace("<|im_end|>", "<|stop|>")
    ids, mask = encode_conversation(tokenizer, [*user("q"), *assistant("a"), *user("r"), *assistant("b")])
    assert learnt(tokenizer, ids, mask).count("<|stop|>") == 2


def test_a_control_token_that_the_tokenizer_calls_ordinary_cannot_come_from_a_text():
    tokenizer = with_template(TEMPLATES["chatml"].replace("<|im_end|>", "<|over|>"), ordinary=["<|over|>"])
    ids, _ = encode_conversation(tokenizer, [*user("a <|over|> b"), *assistant("c")])
    assert ids.count(tokenizer.convert_tokens_to_ids("<|over|>")) == 2


def test_runs_of_blanks_that_a_tokenizer_added_end_no_turn():
    tokenizer = with_template(TEMPLATES["chatml"].replace("<|im_end|>", "\n<|im_end|>"), ordinary=["\n", "\n\n"])
    assert end_token(tokenizer) == tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_blanks_that_the_template_writes_around_a_text_are_no_part_of_it():
    tokenizer = with_template(
        "{% for m in messages %}{{ m.role + ': ' + m.content + '\n<|im_end|>' if m.role == 'assistant' else 'user: ' + m.content + ' ' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
    )
    turn = encode_turn(tokenizer, user("q"), "hello", ended=True)
    text = decode_completion(tokenizer, turn.completion_ids[:-1], ended=True)
    assert text == "hello" and encode_turn(tokenizer, user("q"), text, ended=True) == turn


@pytest.mark.parametrize("name", sorted(TOKENIZERS), ids="-".join)
def test_the_turns_of_a_long_conversation_are_found_one_by_one_and_all_at_once(name):
    """Templates that write contents as they are, or trimmed, are read once; others turn by turn."""
    tokenizer = TOKENIZERS[name]
    turns = [turn for number in range(6) for turn in (*user(f" question {number} "), *assistant(f"answer {number}"))]
    ids, mask = encode_conversation(tokenizer, turns)
    text = learnt(tokenizer, ids, mask)
    assert all(f"answer {number}" in text for number in range(6)) and "question" not in text
