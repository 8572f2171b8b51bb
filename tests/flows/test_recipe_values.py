"""The form of a schedule says what its recipe has; that of every recipe says where the values are."""

import copy

import pytest
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import validate

from alignflow.data import catalogue
from alignflow.flows import deployed, recipe_values
from alignflow.flows.deployments import DEPLOYMENTS
from alignflow.flows.recipe_values import WHERE_VALUES_ARE, form_of, of_one_recipe

GENERAL = f"Align a model.\n\n{WHERE_VALUES_ARE}"


@pytest.fixture(scope="module")
def schema():
    return parameter_schema(deployed.pipeline).model_dump_for_openapi()


def settings_of(schema):
    return schema["definitions"]["PipelineSettings"]["properties"]


def test_each_field_says_the_value_of_the_recipe_and_none_has_it_as_a_default(schema, repository):
    before = copy.deepcopy(schema)
    parameters = {"recipe": str(repository / "recipes" / "tiny.yaml"), "more": ["align.learning_rate=0.25"]}
    own, description = of_one_recipe(schema, GENERAL, "pipeline", parameters)
    fields = settings_of(own)
    assert fields["align_method"]["description"].endswith("Empty: as in the recipe: dpo.")
    assert fields["align_learning_rate"]["description"].endswith("Empty: as in the recipe: 0.25."), "as more changes it"
    assert fields["label_judge_options"]["description"].endswith("as in the recipe: {constitution: helpful}.")
    assert not any("default" in field for field in fields.values()) and schema == before
    assert "tiny.yaml had at" in description and WHERE_VALUES_ARE not in description
    assert validate(parameters, own) == []


def test_what_the_recipe_does_not_set_is_as_it_was(schema, repository):
    own, _ = of_one_recipe(schema, GENERAL, "pipeline", {"recipe": str(repository / "recipes" / "tiny.yaml")})
    assert settings_of(own)["align_options"] == settings_of(schema)["align_options"]


def test_a_long_value_is_not_cut(schema, repository, monkeypatch):
    monkeypatch.setattr(recipe_values, "LONGEST_VALUE", 5)
    own, _ = of_one_recipe(schema, GENERAL, "pipeline", {"recipe": str(repository / "recipes" / "tiny.yaml")})
    assert settings_of(own)["label_judge_options"]["description"].endswith(
        "as in the recipe: a long value, see the file."
    )


def test_a_recipe_that_cannot_be_read_is_told_and_changes_no_field(schema, tmp_path):
    own, description = of_one_recipe(schema, GENERAL, "pipeline", {"recipe": str(tmp_path / "gone.yaml")})
    assert own == schema and "cannot show the values" in description and "gone.yaml" in description


@pytest.mark.parametrize("flow", DEPLOYMENTS)
def test_the_form_of_each_flow_is_in_its_schema(flow):
    form = form_of(flow)
    schema = parameter_schema(DEPLOYMENTS[flow].flow).model_dump_for_openapi()
    if flow == "rlaif-data":
        assert form is None and of_one_recipe(schema, "d", flow, {"recipe": "x"}) == (schema, "d")
    elif form.places:
        assert form.places.keys() == schema["definitions"][form.__name__]["properties"].keys()
    else:
        assert flow in catalogue.STAGES and "settings" not in schema["properties"]
