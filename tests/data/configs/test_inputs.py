"""Configs of data and of the base model."""

import pytest
from pydantic import ValidationError

from alignflow.data.configs.inputs import BuildConfig, SourceConfig


def test_a_column_that_no_format_reads_brings_the_nearest_one():
    assert SourceConfig(path="a", columns={"prompt": "data.question"}).columns == {"prompt": "data.question"}
    with pytest.raises(ValidationError, match="did you mean 'prompt'"):
        SourceConfig(path="a", columns={"promt": "question"})


@pytest.mark.parametrize(
    "sizes",
    [
        {"hidden_size": 100, "num_attention_heads": 8, "num_key_value_heads": 8},
        {"hidden_size": 128, "num_attention_heads": 8, "num_key_value_heads": 3},
    ],
)
def test_heads_must_divide_the_width(sizes):
    with pytest.raises(ValidationError, match="must divide"):
        BuildConfig(**sizes)
