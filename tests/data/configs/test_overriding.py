"""What a round has otherwise: fields over its section, and settings that name a round."""

import pytest

from alignflow.data.configs.generation import LabelConfig
from alignflow.data.configs.overriding import for_round, merged, overridden, round_setting
from alignflow.data.errors import RecipeError


def test_fields_go_over_the_section_at_any_depth_and_what_nobody_set_stays_unset():
    config = LabelConfig.model_validate({"judge": {"name": "rubric", "options": {"temperature": 0.2}}})
    found = overridden(config, {"judge": {"options": {"constitution": "reader"}}}, "label.2")
    assert found.judge.options == {"temperature": 0.2, "constitution": "reader"}
    assert found.model_fields_set == {"judge"}
    assert overridden(config, None, "label.1") is config
    with pytest.raises(RecipeError, match=r"label\.2"):
        overridden(config, {"judgement": 1}, "label.2")


def test_another_judge_leaves_the_options_of_the_first_behind_and_the_same_name_keeps_them():
    section = {"judge": {"name": "rubric", "options": {"temperature": 0.2}}}
    assert merged(section, {"judge": {"name": "llm"}})["judge"] == {"name": "llm"}
    assert merged(section, {"judge": {"name": "rubric"}})["judge"] == section["judge"]
    assert merged(section, {"judge": {"name": "llm", "options": {"seed": 3}}})["judge"]["options"] == {"seed": 3}


def test_settings_of_rounds_are_told_from_those_of_sections_and_lists():
    assert round_setting("label.2.judge.name") == ("label.2", "judge.name")
    assert round_setting("evaluate.judges.0") is None and round_setting("data.prompts.0.path") is None
    settings = [("label.judge.name", "llm"), ("seed", 1)]
    assert for_round(settings, "label", 2) == [("label.2.judge.name", "llm"), ("seed", 1)]
    assert for_round(settings, "label", 0) == settings
