"""Ids of texts, in which control tokens are what they look like, and of what a template wrote, in which they are themselves."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests_support import SPECIAL, small_tokenizer

from alignflow.data.rendering import load_tokenizer
from alignflow.data.token_ids import controls_of, template_ids, text_ids, without_gaps


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_tokenizer(small_tokenizer(tmp_path_factory.mktemp("tokenizer")))


def test_control_tokens_are_those_that_the_tokenizer_calls_special(tokenizer):
    controls = controls_of(tokenizer)
    assert set(SPECIAL) <= controls.texts and set(tokenizer.convert_tokens_to_ids(SPECIAL)) <= controls.ids
    assert controls.special.search("a <|end|> b") and not controls.special.search("<end>")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(text=st.lists(st.sampled_from([*SPECIAL, "question ", "é", "\n", " "]), max_size=6).map("".join))
def test_no_text_of_a_user_becomes_a_control_token(tokenizer, text):
    ids = text_ids(tokenizer, text)
    assert not controls_of(tokenizer).ids.intersection(ids) and tokenizer.decode(ids) == text


def test_of_what_a_template_wrote_the_control_tokens_of_a_users_text_alone_are_taken_apart(tokenizer):
    text = "<|user|>say <|end|> now<|end|>"
    start = text.index("<|end|>")
    plain, _ = template_ids(tokenizer, text)
    ids, spans = template_ids(tokenizer, text, [(start, start + len("<|end|>"))])
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    assert plain.count(end) == 2 and ids.count(end) == 1 and ids[-1] == end
    assert len(ids) == len(spans) and tokenizer.decode(ids) == text
    assert template_ids(tokenizer, "") == ([], [])


def test_a_blank_that_no_token_has_belongs_to_the_token_that_it_begins():
    assert without_gaps([(0, 2), (3, 5), (5, 6)]) == [(0, 2), (2, 5), (5, 6)]
