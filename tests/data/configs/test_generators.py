"""Which engine runs the model of a role, as a recipe says it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from alignflow.data.configs.generation import SampleConfig
from alignflow.data.configs.generators import GeneratorConfig


def test_a_name_alone_is_the_engine_with_its_defaults():
    assert SampleConfig.model_validate({"generator": "vllm"}).generator == GeneratorConfig(name="vllm")


def test_options_need_the_name_of_their_engine():
    with pytest.raises(ValidationError, match="set its name"):
        GeneratorConfig(options={"seed": 1})


def test_a_section_without_an_engine_leaves_the_choice_to_the_recipe():
    assert SampleConfig().generator is None and GeneratorConfig().name == "auto"
