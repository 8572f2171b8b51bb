"""The longest row that trains is the config's, and never longer than the model's context."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import BloomConfig, GPT2Config, LlamaConfig

from alignflow.models.trainers.room import context_of, room


@given(st.integers(8, 10_000), st.none() | st.integers(1, 10_000))
def test_the_shorter_of_the_two_counts_and_is_the_one_that_is_named(max_length, context):
    longest, limit = room(max_length, context, "sft.max_length")
    assert longest == min(max_length, context or max_length)
    assert limit == (
        f"sft.max_length {longest}"
        if context is None or context >= max_length
        else f"the model's context of {longest} tokens"
    )


@pytest.mark.parametrize(
    ("config", "context"),
    [(LlamaConfig(max_position_embeddings=77), 77), (GPT2Config(n_positions=99), 99), (BloomConfig(), None)],
)
def test_the_context_is_what_the_models_config_says(config, context):
    assert context_of(type("Model", (), {"config": config})) == context
