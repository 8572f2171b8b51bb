"""What a generator gives, and which one a runtime names."""

import pytest

from alignflow.data.configs.generators import GeneratorConfig
from alignflow.data.errors import RecipeError
from alignflow.data.run import Runtime
from alignflow.models.generation.base import Generation, make_generator


def test_the_stop_token_counts_and_is_no_part_of_the_answer():
    assert Generation((1, 2), True, stop=3).tokens == 3 and Generation((1, 2), False).tokens == 2
    assert Generation((1, 2), True, stop=3) == Generation((1, 2), True, stop=4), "which token ended it is no matter"


def test_an_unknown_generator_brings_the_known_ones(tmp_path):
    with pytest.raises(RecipeError, match="transformers"):
        make_generator(tmp_path, Runtime(), GeneratorConfig(name="transformer"))
