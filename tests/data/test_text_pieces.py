"""Texts in pieces between control tokens: their ids in a row are those of the whole text."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests_support import SPECIAL, small_tokenizer

from alignflow.data.rendering import load_tokenizer
from alignflow.data.text_pieces import Pieces, can_encode
from alignflow.data.token_ids import template_ids


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_tokenizer(small_tokenizer(tmp_path_factory.mktemp("tokenizer")))


TEXTS = st.lists(st.sampled_from([*SPECIAL, "question ", "the answer", "é", "\n", " "]), max_size=8).map("".join)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(texts=st.lists(TEXTS, max_size=4))
def test_ids_and_places_are_those_of_the_whole_text(tokenizer, texts):
    assert can_encode(tokenizer)
    pieces = Pieces(tokenizer)
    cut = [pieces.cut(text) for text in texts]
    pieces.encode()
    for text, parts in zip(texts, cut, strict=True):
        ids, spans = template_ids(tokenizer, text)
        assert pieces.ids(parts) == ids and "".join(parts) == text
        assert [span for _, _, found in pieces.places(parts) for span in found] == spans
