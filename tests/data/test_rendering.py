"""Texts never become control tokens, and training, sampling and scoring see the same ids."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from alignflow.data.errors import ModelError
from alignflow.data.records import assistant, user
from alignflow.data.rendering import (
    TEMPLATES,
    decode_completion,
    encode_completion,
    encode_conversation,
    encode_prompt,
    load_tokenizer,
)  # fmt: skip

SPECIAL = ["<|pad|>", "<|end|>", "<s>", "<|im_start|>", "<|im_end|>", "<|user|>", "<|assistant|>", "<|system|>"]


def make_tokenizer(template):
    core = Tokenizer(models.BPE())
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        ["hello world " * 20], trainers.BpeTrainer(vocab_size=300, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False)
    )
    eos = "<|im_end|>" if template == "chatml" else "<|end|>"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token=eos, pad_token=eos, bos_token="<s>", additional_special_tokens=SPECIAL
    )
    tokenizer.chat_template = TEMPLATES[template]
    return tokenizer


TOKENIZERS = {name: make_tokenizer(name) for name in TEMPLATES}
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40) | st.sampled_from(["<|end|>", "a <|im_end|> b", "<s>"])


@pytest.fixture(params=list(TEMPLATES))
def tokenizer(request):
    return TOKENIZERS[request.param]


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(list(TEMPLATES)), question=TEXTS, answer=TEXTS)
def test_a_conversation_is_its_prompt_and_its_completion(name, question, answer):
    tokenizer = TOKENIZERS[name]
    ids, mask = encode_conversation(tokenizer, [*user(question), *assistant(answer)])
    prompt, completion = encode_prompt(tokenizer, user(question)), encode_completion(tokenizer, answer, ended=True)
    assert ids == prompt + completion
    assert mask == [False] * len(prompt) + [True] * len(completion)


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(list(TEMPLATES)), text=TEXTS)
def test_text_never_becomes_a_control_token_and_decodes_to_itself(name, text):
    tokenizer = TOKENIZERS[name]
    ids = encode_completion(tokenizer, text, ended=False)
    assert not set(ids) & set(tokenizer.all_special_ids)
    assert decode_completion(tokenizer, ids) == text


def test_an_ended_answer_ends_with_eos_and_a_cut_one_does_not(tokenizer):
    assert encode_completion(tokenizer, "hello", ended=True)[-1] == tokenizer.eos_token_id
    assert tokenizer.eos_token_id not in encode_completion(tokenizer, "hello", ended=False)


def test_a_prompt_has_at_most_one_bos(tokenizer):
    assert encode_prompt(tokenizer, user("hello")).count(tokenizer.bos_token_id) <= 1


def test_every_assistant_turn_is_supervised_and_no_other(tokenizer):
    turns = [{"role": "system", "content": "be kind"}, *user("q"), *assistant("first"), *user("r"), *assistant("second")]
    ids, mask = encode_conversation(tokenizer, turns)
    learnt = tokenizer.decode([token for token, counts in zip(ids, mask, strict=True) if counts])
    assert "first" in learnt and "second" in learnt and "kind" not in learnt and mask.count(True) < len(mask)
    ends = [token for token, counts in zip(ids, mask, strict=True) if counts and token == tokenizer.eos_token_id]
    assert len(ends) == 2


def test_a_conversation_without_an_assistant_is_refused(tokenizer):
    with pytest.raises(ValueError, match="assistant"):
        encode_conversation(tokenizer, user("hello"))


def test_a_template_that_leaves_a_message_out_is_refused(tokenizer):
    kept = tokenizer.chat_template
    tokenizer.chat_template = "{{ messages[-1]['content'] }}"
    try:
        with pytest.raises(ModelError, match="leaves a message out"):
            encode_prompt(tokenizer, [*user("one"), *assistant("two"), *user("three")])
    finally:
        tokenizer.chat_template = kept


def test_a_tokenizer_without_eos_is_refused(tmp_path):
    core = Tokenizer(models.BPE())
    PreTrainedTokenizerFast(tokenizer_object=core).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no EOS"):
        load_tokenizer(tmp_path)


def test_a_directory_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(ModelError, match="no tokenizer"):
        load_tokenizer(tmp_path)
