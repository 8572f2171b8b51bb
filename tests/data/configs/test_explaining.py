"""What pydantic found in a recipe, as one message."""

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from alignflow.data.configs.explaining import LISTED, explain, suggest
from alignflow.data.configs.recipe import Recipe


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    beta: float = Field(default=0.1, gt=0)


class Config(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    inner: Inner = Inner()
    steps: int = 1
    names: tuple[str, ...] = ()

    @field_validator("steps")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("is even")
        return value


def message(content: Any, place: str = "") -> str:
    with pytest.raises(ValidationError) as raised:
        Config.model_validate(content)
    return str(explain(raised.value, Config, "recipe.yaml", "look it up", place))


def test_the_nearest_name_is_suggested_or_all_are_listed():
    assert suggest("btea", ["beta", "steps"]) == "did you mean 'beta'?"
    assert suggest("zzz", ["beta", "alpha"]) == "known: alpha, beta"


def test_an_unknown_key_names_the_fields_of_its_own_section():
    text = message({"inner": {"btea": 1}})
    assert "unknown key 'inner.btea'" in text and "did you mean 'beta'?" in text


def test_a_wrong_value_is_quoted_with_its_place_and_the_advice():
    text = message({"steps": "two"}, place="sft")
    assert "sft.steps" in text and "two" in text and "look it up" in text


def test_our_own_sentence_is_about_the_value():
    assert "steps: 2 is even" in message({"steps": 2})


def test_words_are_those_of_yaml():
    assert "a mapping" in message({"inner": 3}) and "a list" in message({"names": 3})


def test_of_many_faults_some_are_named_and_the_others_counted():
    assert "(and 3 more)" in message({f"key{number}": 1 for number in range(LISTED + 3)})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "replace.reward: The list should have at least 1 item"),
        ([1], "replace.reward.0: Input should be a valid string, not 1"),
        ("", "replace.reward: the path is empty"),
        (3, "replace.reward: Input should be a valid string, not 3; replace.reward: Input should be a list, not 3"),
    ],
)
def test_a_field_that_takes_a_text_or_a_list_is_named_as_the_recipe_names_it(given, words):
    with pytest.raises(ValidationError) as raised:
        Recipe.model_validate({"replace": {"reward": given}})
    text = str(explain(raised.value, Recipe, "recipe.yaml", "look it up"))
    assert text.startswith(f"recipe.yaml: {words}") and "function-" not in text and "tuple[" not in text
