"""Configs that name a row of the catalogue."""

import pytest

from alignflow.data.binding import configs_in, parsed_options
from alignflow.data.configs.generation import JudgeConfig, SampleConfig
from alignflow.data.configs.training import AlignConfig
from alignflow.data.errors import RecipeError


def test_options_are_those_of_the_row():
    assert parsed_options(AlignConfig(method="ipo", options={"beta": 0.3}), "align").beta == 0.3
    assert parsed_options(JudgeConfig(name="my_judges:Mine", options={"any": 1}), "label.judge") is None, (
        "the user's own code"
    )
    assert parsed_options(SampleConfig(), "sample") is None


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (AlignConfig(method="dop"), "align.method"),
        (AlignConfig(method="dpo", options={"btea": 1}), "did you mean 'beta'"),
        (JudgeConfig(name="rubrik"), "did you mean 'rubric'"),
    ],
)
def test_what_a_row_does_not_have_is_refused_with_its_place(config, said):
    with pytest.raises(RecipeError, match=said):
        parsed_options(config, "align" if isinstance(config, AlignConfig) else "label.judge")


def test_configs_inside_of_options_have_their_place():
    config = AlignConfig(
        method="ppo", options={"rewards": [{"name": "judge", "options": {"judge": {"name": "rubric"}}}]}
    )
    places = [place for place, _ in configs_in(config, "align")]
    assert places[:2] == ["align", "align.options"] and "align.options.rewards.0" in places
    assert any(place.endswith("judge") for place in places)
