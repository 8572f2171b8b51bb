"""Settings by their places, and where two configs differ."""

from alignflow.data.configs.places import DEFAULT, by_place, differing


def test_places_are_those_that_settings_name():
    config = {"seed": 1, "judge": {"name": "rubric", "options": {}}, "judges": [{"name": "a"}], "ids": [1, 2]}
    assert by_place(config) == {
        "seed": 1,
        "judge.name": "rubric",
        "judge.options": {},
        "judges.0.name": "a",
        "ids": [1, 2],
    }


def test_each_place_that_differs_has_the_value_of_the_first():
    one = {"seed": 2, "align": {"method": "dpo", "options": {"beta": 0.2}}, "evaluate": None}
    other = {"seed": 1, "align": {"method": "dpo", "options": {}}, "sft": {"max_steps": 3}}
    assert differing(one, other) == {
        "seed": 2,
        "align.options.beta": 0.2,
        "evaluate": None,
        "sft.max_steps": DEFAULT,
    }
    assert differing(one, one) == {}
