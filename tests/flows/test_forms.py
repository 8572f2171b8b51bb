"""A form asks for what the recipe's configs have, says what each field means, and has nothing that the page cannot draw."""

import json

import pytest
from pydantic import ValidationError

from alignflow.data import catalogue
from alignflow.data.configs.loading import load_recipe
from alignflow.flows.deployed import STAGE_FLOWS, inputs_form
from alignflow.flows.forms import STANDS_IN, as_yaml, leaves, pipeline_form, prefilled, stage_form
from alignflow.flows.pipeline import Selection
from alignflow.flows.preference_data import preference_form

FORMS = {
    **{stage: stage_form(stage) for stage in STAGE_FLOWS},
    "pipeline": pipeline_form(),
    "rlaif-data": preference_form(),
}
FORMS |= {f"inputs of {stage}": inputs_form(stage) for stage in STAGE_FLOWS} | {"selection": Selection}


@pytest.mark.parametrize("name", FORMS)
def test_a_form_has_no_unions_no_references_and_no_null_defaults(name):
    schema = FORMS[name].model_json_schema()
    text = json.dumps(schema)
    assert not {"anyOf", "oneOf", "allOf", "$ref", "null"} & set(text.replace('"', " ").split()), text
    assert schema["additionalProperties"] is False
    for field in schema["properties"].values():
        assert field["title"] and field["description"].endswith("."), field


@pytest.mark.parametrize("stage", STAGE_FLOWS)
def test_the_form_of_a_stage_has_every_field_of_its_config(stage):
    shown = set(stage_form(stage).places.values())
    section = {"init": "model", "prepare": "data"}.get(stage, stage)
    expected = {leaf.place for leaf in leaves(catalogue.STAGES[stage].config, section)}
    assert shown == (expected if stage not in ("reference", "split") else set())


def test_every_stage_with_a_step_of_its_own_has_a_flow():
    assert set(STAGE_FLOWS) | set(STANDS_IN) == set(catalogue.STAGES)


def test_the_schema_of_align():
    """A snapshot of the fields that people change most: names, choices and bounds."""
    fields = stage_form("align").model_json_schema()["properties"]
    first = ["method", "options", "learning_rate", "num_train_epochs", "max_steps", "sft_coefficient"]
    assert list(fields)[:6] == first, "what people change most comes first, and what only it has comes before the rest"
    assert fields["method"] == {
        "title": "method",
        "type": "string",
        "enum": list(catalogue.METHODS),
        "description": "A name of `alignflow methods`, or a loss of your own: path/to/file.py:NAME, package.module:NAME. "
        "Your own is written under more, as align.method=file.py:NAME. Empty: as in the recipe (by default: dpo).",
    }
    assert fields["sft_coefficient"] == {
        "title": "sft_coefficient",
        "type": "number",
        "minimum": 0,
        "maximum": 1000,
        "description": "Weight of the NLL per token of the chosen answers (RPO term) (>= 0, <= 1000). Empty: as in the recipe (by default: 0.0).",
    }
    assert fields["warmup_ratio"]["minimum"] == 0 and fields["warmup_ratio"]["maximum"] == 1
    assert fields["options"]["type"] == "object" and fields["lora"]["type"] == "object"
    assert fields["load_best_model_at_end"]["enum"] == ["yes", "no"]


@pytest.mark.parametrize(
    ("form", "first"),
    [
        (pipeline_form(), ["align_method", "align_options", "align_learning_rate"]),
        (stage_form("label"), ["judge_name", "judge_options", "pairs_per_prompt"]),
        (stage_form("sft"), ["learning_rate", "num_train_epochs"]),
        (stage_form("sample"), ["n", "temperature", "max_new_tokens"]),
    ],
)
def test_what_people_change_most_comes_first(form, first):
    assert list(form.model_fields)[: len(first)] == first


def test_choices_of_the_catalogue_are_lists_to_choose_from():
    label = stage_form("label").model_json_schema()["properties"]
    assert label["judge_name"]["enum"] == list(catalogue.JUDGES) and label["judge_name"]["title"] == "judge.name"
    evaluators = stage_form("evaluate").model_json_schema()["properties"]["evaluators"]
    assert evaluators["items"]["enum"] == list(catalogue.EVALUATORS)


def test_what_is_filled_in_changes_those_places_alone(repository):
    form = stage_form("align")(sft_coefficient=0.3, load_best_model_at_end="no", learning_rate=None)
    assert form.given() == [("align.sft_coefficient", 0.3), ("align.load_best_model_at_end", False)]
    tiny = repository / "recipes" / "tiny.yaml"
    changed = load_recipe(tiny, form.given())
    assert changed.align.sft_coefficient == 0.3 and changed.align.load_best_model_at_end is False
    assert changed.model_copy(update={"align": None}) == load_recipe(tiny).model_copy(update={"align": None})
    assert changed.align.learning_rate == load_recipe(tiny).align.learning_rate


@pytest.mark.parametrize(
    "wrong", [{"sft_coefficient": -1}, {"sft_coefficient": "much"}, {"method": "dop"}, {"beta": 1}]
)
def test_a_wrong_value_or_name_is_refused_by_the_form(wrong):
    with pytest.raises(ValidationError):
        stage_form("align")(**wrong)


def test_settings_fill_the_form_and_the_rest_stays_as_name_and_value():
    settings = [
        ("align.sft_coefficient", 0.2),
        ("align.load_best_model_at_end", True),
        ("data.max_length", 128),
        ("align.options.x", {"a": None}),
    ]
    fields, others = prefilled(stage_form("align"), settings)
    assert fields == {"sft_coefficient": 0.2, "load_best_model_at_end": "yes"}
    assert others == ["data.max_length=128", "align.options.x={a: null}"]
    assert stage_form("align")(**fields).given() == [
        ("align.sft_coefficient", 0.2),
        ("align.load_best_model_at_end", True),
    ]


@pytest.mark.parametrize("value", [1e-6, 3, True, None, "yes", "text: with # signs", [1, {"a": [None, "b"]}], ""])
def test_a_value_survives_its_line_of_yaml(value):
    from alignflow.data.configs.loading import parse_setting

    assert parse_setting(f"a.b={as_yaml(value)}") == ("a.b", value)
