"""What is dropped by its bytes alone would have been dropped by its tokens."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests_support import small_tokenizer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from alignflow.data.byte_bounds import longest_bytes
from alignflow.data.rendering import load_tokenizer

BYTES = {symbol: number for number, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
FALLBACK = {f"<0x{byte:02X}>": byte for byte in range(256)} | {"<unk>": 256, "▁": 257, "▁a": 258}


def made(vocabulary, normalizer=None, pre_tokenizer=None, **arguments):
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], **arguments))
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


BOUND = {
    "bytes": lambda: made(BYTES, pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "bytes of composed characters": lambda: made(
        BYTES, normalizers.NFKC(), pre_tokenizers.ByteLevel(add_prefix_space=False)
    ),
    "bytes of small letters": lambda: made(
        BYTES,
        normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase()]),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ),
    "sentencepiece": lambda: made(
        FALLBACK,
        normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
        byte_fallback=True,
        unk_token="<unk>",
        fuse_unk=True,
    ),
    "characters": lambda: made({"<unk>": 0, "a": 1}, unk_token="<unk>"),
}
UNBOUND = {
    "unknown runs in one token": lambda: made({"<unk>": 0, "a": 1}, unk_token="<unk>", fuse_unk=True),
    "unknown characters are lost": lambda: made({"a": 0}),
    "spaces are lost": lambda: made(BYTES, pre_tokenizer=pre_tokenizers.Whitespace()),
    "ends are stripped": lambda: made(BYTES, normalizers.Strip(), pre_tokenizers.ByteLevel()),
    "spaces are collapsed": lambda: made(BYTES, normalizers.Replace("  ", " "), pre_tokenizers.ByteLevel()),
    "words": lambda: PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    ),
}
HOSTILE = (
    st.text(st.sampled_from("aA e\u0301\u0327\u1100\u1161\u11a8\u212a\ufb01\U0001d400\u1f82\u0130ß\t\n\u200d🏳️‍🌈"))
    | st.text()
)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    trained = load_tokenizer(small_tokenizer(tmp_path_factory.mktemp("tokenizer")))
    return {"trained": trained, **{name: make() for name, make in BOUND.items()}}


@pytest.mark.parametrize("name", ["trained", *BOUND])
def test_no_text_has_more_bytes_than_its_tokens_can_have(tokenizers, name):
    tokenizer = tokenizers[name]

    @settings(max_examples=150, deadline=None)
    @given(HOSTILE)
    def check(text):
        ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert len(text.encode()) <= longest_bytes(tokenizer, len(ids))

    check()


@pytest.mark.parametrize("name", UNBOUND)
def test_a_tokenizer_that_may_lose_text_gives_no_bound(name):
    assert longest_bytes(UNBOUND[name](), 10) is None


def test_a_tokenizer_in_python_gives_no_bound():
    assert longest_bytes(object(), 10) is None
