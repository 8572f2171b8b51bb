"""A run that finds every step: no Prefect, no server, the same table. When a run needs a server, and which workers that one can have."""

import subprocess
import sys

import pytest
from flow_support import publish_all

from alignflow.cli.run import all_found, refuse_far_workers
from alignflow.data.configs.loading import load_recipe
from alignflow.data.errors import UserError
from alignflow.flows.calls import Step, plan
from alignflow.flows.graph import nodes

TINY = "recipes/tiny.yaml"
WITHOUT_PREFECT = """
import sys
from alignflow.cli import app
sys.argv = ["alignflow", *sys.argv[1:]]
try:
    app.main()
finally:
    print("prefect imported:", "prefect" in sys.modules)
"""


@pytest.fixture
def recipe(repository):
    return load_recipe(repository / TINY)


@pytest.fixture
def alignflow(repository, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-c", WITHOUT_PREFECT, *arguments], cwd=repository, capture_output=True, text=True
        )

    return run


def test_a_run_that_finds_every_step_imports_no_prefect_and_starts_no_server(recipe, store, alignflow):
    publish_all(recipe, store)
    done = alignflow("run", TINY)
    assert done.returncode == 0, done.stderr
    assert "no Prefect server is needed" in done.stdout and "prefect imported: False" in done.stdout
    for step in plan(recipe, store):
        assert f"{step.name}  cached" in done.stdout
    assert "seconds" in done.stdout and "aligned model: " in done.stdout and "report: " in done.stdout
    assert not (store.root / "prefect" / "logs").exists()


def test_what_became_of_the_rows_of_each_table_is_printed_for_a_found_step_too(recipe, store, alignflow):
    metrics = {
        "prompts/kept": 40.0,
        "prompts/dropped": 0.0,
        "demonstrations/kept": 20.0,
        "demonstrations/dropped": 20.0,
        "demonstrations/dropped/empty": 2.0,
        "demonstrations/dropped/over_long": 18.0,
    }
    publish_all(recipe, store, metrics={"prepare": metrics})
    done = alignflow("run", TINY)
    assert (
        "\ndemonstrations: kept 20 of 40: 18 over_long, 2 empty\n" in done.stdout
        and "\nprompts: kept 40 of 40\n" in done.stdout
    )


def test_a_gate_of_a_found_step_decides_as_in_any_run(recipe, store, alignflow):
    publish_all(recipe, store)
    done = alignflow("run", TINY, "--set", "gates=[{stage: reward, metric: accuracy, minimum: 1, action: stop}]")
    assert done.returncode in (2, 4) and "reward" in done.stderr and "prefect imported: False" in done.stdout


STEPS = [Step("init", "cached"), Step("sft", "cached"), Step("align", "run")]


@pytest.mark.parametrize(
    ("chosen", "forced", "found"),
    [({"init", "sft"}, set(), True), ({"init", "sft"}, {"sft"}, False), ({"init", "align"}, set(), False)],
)
def test_a_forced_or_missing_step_among_the_chosen_needs_a_server(recipe, chosen, forced, found):
    assert all_found(STEPS, [node for node in nodes(recipe) if node.name in chosen], forced) is found


def test_dask_workers_elsewhere_need_a_server_that_they_reach(recipe):
    def with_address(address):
        return recipe.model_copy(
            update={"engine": recipe.engine.model_copy(update={"task_runner": "dask", "dask_address": address})}
        )

    refuse_far_workers(with_address(""))
    refuse_far_workers(with_address("tcp://127.0.0.1:8786"))
    with pytest.raises(UserError, match="Dask workers on other machines"):
        refuse_far_workers(with_address("tcp://head.example:8786"))
