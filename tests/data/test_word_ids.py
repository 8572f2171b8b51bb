"""ASCII texts are divided into words as the tokenizer divides them, or not at all."""

import itertools
import re

import pytest
from chat_template_support import CORPUS
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from alignflow.data.word_ids import words_of

ENDINGS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def split(pattern):
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


KNOWN = {
    "gpt2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "smollm2": pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    ),
    "llama3": split(rf"{ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{REST}"),
    "qwen2": split(rf"{ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{REST}"),
}
OTHER = {
    "a blank before each text": pre_tokenizers.ByteLevel(add_prefix_space=True),
    "a pattern that is not known": split(r"\p{Lu}|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|" + REST),
    "a pattern that leaves some out": split(r"[^\r\n\p{L}\p{N}]?\p{L}+|\s+"),
    "blanks removed": pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    ),
    "metaspace": pre_tokenizers.Metaspace(),
}
ASCII = [chr(number) for number in range(128)]
CLASSES = ["a", "S", " ", "\n", "\r", "\t", "1", "'", "'s", "'LL", ".", "\x0b", "\x1c", "_"]


def tokenizer_of(pre_tokenizer, normalizer=None, **model):
    core = Tokenizer(models.BPE(**model))
    core.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        core.normalizer = normalizer
    core.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False),
    )
    return PreTrainedTokenizerFast(tokenizer_object=core)


TOKENIZERS = {name: tokenizer_of(known) for name, known in KNOWN.items()}
EVERY = pytest.mark.parametrize("name", KNOWN)


def expected(tokenizer, texts):
    return {text: tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts}


@EVERY
def test_words_are_the_tokenizers_for_every_pair_of_characters(name):
    tokenizer = TOKENIZERS[name]
    find = words_of(tokenizer)._pattern.findall
    for first, second in itertools.product(ASCII, repeat=2):
        text = f"a{first}{second}"
        theirs = [text[start:end] for _, (start, end) in tokenizer._tokenizer.pre_tokenizer.pre_tokenize_str(text)]
        assert find(text) == theirs, repr(text)


@EVERY
def test_words_are_the_tokenizers_for_every_row_of_kinds_of_characters(name):
    tokenizer = TOKENIZERS[name]
    find = words_of(tokenizer)._pattern.findall
    for row in itertools.product(CLASSES, repeat=4):
        text = "".join(row)
        theirs = [text[start:end] for _, (start, end) in tokenizer._tokenizer.pre_tokenizer.pre_tokenize_str(text)]
        assert find(text) == theirs, repr(text)


@EVERY
@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(
        st.one_of(
            st.text(st.characters(max_codepoint=127), min_size=1),
            st.lists(st.sampled_from(CLASSES), min_size=1).map("".join),
        ),
        max_size=6,
    )
)
def test_ids_and_places_are_those_of_the_whole_text(name, texts):
    tokenizer, words = TOKENIZERS[name], words_of(TOKENIZERS[name])
    found = words.encode(texts)
    assert found == expected(tokenizer, texts)
    for text, ids in found.items():
        assert (
            words.places(ids)
            == tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        )


def test_words_of_one_batch_serve_the_next():
    tokenizer = TOKENIZERS["gpt2"]
    words = words_of(tokenizer)
    assert words.encode(["hello world"]) == expected(tokenizer, ["hello world"])
    words._backend = None  # nothing new is asked for
    assert words.encode(["hello world world"]) == expected(tokenizer, ["hello world world"])


def test_other_texts_are_left_to_the_tokenizer():
    words = words_of(TOKENIZERS["gpt2"])
    assert words.encode(["a", "caf\u00e9"]) == expected(TOKENIZERS["gpt2"], ["a"])


@pytest.mark.parametrize("pre_tokenizer", OTHER.values(), ids=OTHER)
def test_no_words_where_the_division_is_not_known(pre_tokenizer):
    assert words_of(tokenizer_of(pre_tokenizer)) is None


@pytest.mark.parametrize(
    "change", [{"normalizer": normalizers.Lowercase()}, {"dropout": 0.1}, {"unk_token": "<unk>"}], ids=str
)
def test_no_words_where_a_word_is_not_encoded_for_itself(change):
    assert words_of(tokenizer_of(KNOWN["gpt2"], **change)) is None


def test_a_normalizer_that_leaves_ascii_alone_is_no_hindrance():
    tokenizer = tokenizer_of(KNOWN["qwen2"], normalizer=normalizers.NFC())
    assert words_of(tokenizer).encode(["hello world"]) == expected(tokenizer, ["hello world"])


def test_the_memory_is_emptied_when_it_is_full(monkeypatch):
    monkeypatch.setattr("alignflow.data.word_ids._ROOM", 3)
    tokenizer = TOKENIZERS["gpt2"]
    words = words_of(tokenizer)
    texts = ["hello world", "hello fox", "brown world"]
    for text in texts:
        assert words.encode([text]) == expected(tokenizer, [text])
    assert set(words._known) == set(re.findall(r" ?\w+", texts[-1]))
