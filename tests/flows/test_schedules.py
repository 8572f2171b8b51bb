"""When a schedule is due is a cron line in a time zone, or a time between runs."""

from types import SimpleNamespace

import pytest
from prefect.utilities.callables import parameter_schema

from alignflow.data.errors import UserError
from alignflow.flows import deployed
from alignflow.flows.recipe_values import WHERE_VALUES_ARE
from alignflow.flows.schedules import add, rule


def test_rules():
    nightly = rule("0 2 * * *", None, "Europe/Berlin")
    assert nightly.cron == "0 2 * * *" and nightly.timezone == "Europe/Berlin"
    assert rule(None, 90, "UTC").interval.total_seconds() == 90


@pytest.mark.parametrize(
    "wrong",
    [(None, None, "UTC"), ("0 2 * * *", 60, "UTC"), ("0 2 * *", None, "UTC"), ("0 2 * * *", None, "Nowhere/At_all")],
)
def test_a_wrong_rule_is_refused(wrong):
    with pytest.raises(UserError):
        rule(*wrong)


def test_the_deployment_of_a_schedule_has_the_values_of_its_recipe_in_its_form(repository):
    """A client in place of the server's: what it is told to create is what counts here."""
    schema = parameter_schema(deployed.pipeline).model_dump_for_openapi()
    general = SimpleNamespace(
        flow_id="f",
        entrypoint="e",
        work_pool_name="p",
        parameters={},
        parameter_openapi_schema=schema,
        description=f"Align.\n\n{WHERE_VALUES_ARE}",
        name="pipeline",
        schedules=[],
        tags=[],
    )
    created = {}

    class Client:
        def read_deployment_by_name(self, name):
            return general

        def read_deployments(self, limit, offset):
            return [] if offset else [general]

        def create_deployment(self, flow_id, name, **fields):
            created.update(fields)

    parameters = {"recipe": str(repository / "recipes" / "tiny.yaml")}
    add(Client(), "pipeline", rule(None, 3600, "UTC"), parameters, "nightly")
    fields = created["parameter_openapi_schema"]["definitions"]["PipelineSettings"]["properties"]
    assert fields["align_learning_rate"]["description"].endswith("Empty: as in the recipe: 0.0001.")
    assert "tiny.yaml had at" in created["description"] and created["parameters"] == parameters
