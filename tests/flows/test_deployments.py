"""One table says what a server offers; where each flow runs follows from what its stage does."""

import subprocess
import sys
from types import SimpleNamespace
from uuid import uuid4

import pytest
from prefect.utilities.callables import parameter_schema
from prefect.utilities.importtools import import_object
from prefect.utilities.schema_tools.validation import validate
from run_support import reads_of_runs, record_run

from alignflow.data import catalogue
from alignflow.data.errors import UserError
from alignflow.flows import deployed, deployments
from alignflow.flows.deployments import CPU, DEPLOYMENTS, GPU, main, pool_of, show_runs
from alignflow.flows.forms import STANDS_IN
from alignflow.flows.recipe_values import WHERE_VALUES_ARE
from alignflow.flows.schedules import SCHEDULE


def test_everything_is_offered():
    assert set(DEPLOYMENTS) == {"pipeline", "sweep", "rlaif-data", *catalogue.STAGES} - set(STANDS_IN)


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_worker_finds_the_flow_by_its_address(name):
    entry = DEPLOYMENTS[name]
    assert entry.flow.name == name
    assert import_object(f"{deployed.__name__}.{entry.flow.fn.__name__}") is entry.flow


def test_a_run_starts_without_what_only_stages_need():
    heavy = {"torch", "transformers", "pandas", "pyarrow", "matplotlib", "datasets"}
    code = f"import sys, alignflow.flows.deployed as flows; assert flows.pipeline and not {heavy} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_every_parameter_is_described_and_empty_boxes_are_empty(name):
    schema = parameter_schema(DEPLOYMENTS[name].flow).model_dump_for_openapi()
    for field in schema["properties"].values():
        assert field["description"], field
    assert schema["properties"].get("settings", {}).get("default", {}) == {}
    assert schema["required"] == (["prompts", "model"] if name == "rlaif-data" else ["recipe"])


@pytest.mark.parametrize(
    ("parameters", "place"),
    [
        ({"settings": {"sft_coefficient": -1}}, ["settings", "sft_coefficient"]),
        ({"settings": {"method": "dop"}}, ["settings", "method"]),
        ({"settings": {"beta": 1}}, ["settings"]),
        ({"inputs": {"polic": "x"}}, ["inputs"]),
        ({"then": "whatever"}, ["then"]),
        (
            {
                "settings": {"options": {"beta": 0.2}},
                "inputs": {"policy": "sft-"},
                "then": "and the stages after it",
                "force": True,
            },
            None,
        ),
    ],
)
def test_the_server_refuses_by_the_schema(parameters, place):
    schema = parameter_schema(DEPLOYMENTS["align"].flow).model_dump_for_openapi()
    errors = validate({"recipe": "x.yaml", **parameters}, schema)
    assert [list(error.absolute_path) for error in errors] == ([place] if place is not None else [])


def test_stages_that_train_or_generate_go_to_the_pool_with_a_gpu():
    roles = {name: entry.role for name, entry in DEPLOYMENTS.items()}
    assert {name for name, role in roles.items() if role == CPU} == {
        "init",
        "prepare",
        "split",
        "select",
        "merge",
        "report",
    }
    pools = {GPU: "big", CPU: "small"}
    assert pool_of(roles["align"], pools) == "big" and pool_of(roles["prepare"], pools) == "small"
    assert pool_of(GPU, {"default": "only", CPU: "small"}) == "only"
    with pytest.raises(UserError, match="no work pool for gpu"):
        pool_of(GPU, {CPU: "small"})


@pytest.mark.parametrize("wrong", ["gpu", "gpu=", "tpu=x"])
def test_a_wrong_role_is_refused(wrong, capsys):
    with pytest.raises(SystemExit) as raised:
        main([wrong])
    assert raised.value.code == 2 and f"'{wrong}' is not ROLE=POOL" in capsys.readouterr().err


def test_what_was_made_before_the_server_is_shown_on_it(store, monkeypatch):
    class Client:
        made = []

        def create_artifact(self, artifact):
            self.made.append(artifact)

    record_run(store, {}, "made-before")
    read = reads_of_runs(monkeypatch)
    show_runs(Client(), store)
    (artifact,) = Client.made
    assert read == [store], "both are made of the same rows"
    assert artifact.key == "runs-of-the-store" and "made\\-before" in artifact.data
    assert "made-before" in (store.root / "dashboard.html").read_text()


def test_a_server_starts_although_its_dashboard_cannot_be_written(store, monkeypatch, capsys):
    def fails(*_, **__):
        raise ZeroDivisionError("a damaged run")

    monkeypatch.setattr(deployments, "write_dashboard", fails)
    show_runs(None, store)
    assert capsys.readouterr().err == "warning: the store's runs are not shown: ZeroDivisionError: a damaged run\n"


def test_registering_again_reads_the_recipe_of_each_schedule_again(repository):
    recipe = {"recipe": str(repository / "recipes" / "tiny.yaml")}
    known = [
        SimpleNamespace(id=1, name="pipeline", tags=["alignflow"], parameters={}),
        SimpleNamespace(id=2, name="nightly", tags=["alignflow", SCHEDULE, "flow:pipeline"], parameters=recipe),
    ]
    updates = {}
    client = SimpleNamespace(
        create_flow_from_name=lambda name: uuid4(),
        read_deployments=lambda flow_filter: known,
        update_deployment=lambda id, update: updates.update({id: update}),
    )
    deployments._register(client, "pipeline", DEPLOYMENTS["pipeline"], "pool")
    general, own = (
        updates[id].parameter_openapi_schema["definitions"]["PipelineSettings"]["properties"]["align_method"]
        for id in (1, 2)
    )
    assert (
        "Empty: as in the recipe (by default" in general["description"] and WHERE_VALUES_ARE in updates[1].description
    )
    assert own["description"].endswith("as in the recipe: dpo.") and "tiny.yaml had at" in updates[2].description
