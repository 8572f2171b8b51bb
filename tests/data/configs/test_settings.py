"""`--set name=value`: a place in the recipe and what stands there."""

import pytest

from alignflow.data.configs.settings import apply_setting, parse_setting
from alignflow.data.errors import RecipeError


@pytest.mark.parametrize(
    ("setting", "wanted"),
    [
        ("align.options.beta=0.2", ("align.options.beta", 0.2)),
        ("name=a=b", ("name", "a=b")),
        ("data.prompts=[{path: x}]", ("data.prompts", [{"path": "x"}])),
        ("reward=", ("reward", None)),
    ],
)
def test_the_value_is_yaml(setting, wanted):
    assert parse_setting(setting) == wanted


@pytest.mark.parametrize("setting", ["name", "=1", "a..b=1", ".a=1", "a=[1", "a." * 200 + "b=1"])
def test_what_is_no_place_and_value_is_refused(setting):
    with pytest.raises(RecipeError):
        parse_setting(setting)


def test_a_value_goes_to_its_place_and_makes_what_is_missing_on_the_way():
    content = {"data": {"prompts": [{"path": "x"}, {"path": "y"}]}, "sft": None}
    apply_setting(content, "data.prompts.1.path", "z")
    apply_setting(content, "sft.max_steps", 3)
    apply_setting(content, "align.options.beta", 0.2)
    assert content["data"]["prompts"] == [{"path": "x"}, {"path": "z"}]
    assert content["sft"] == {"max_steps": 3} and content["align"] == {"options": {"beta": 0.2}}


@pytest.mark.parametrize("place", ["2", "-1", "first", "9999999999999"])
def test_a_place_that_a_list_has_not_is_refused(place):
    with pytest.raises(RecipeError, match="not a place in a list of 1"):
        apply_setting({"prompts": ["x"]}, f"prompts.{place}", 1)
