"""The work pool's template: no job variable sets a run's command, environment or directory."""

import asyncio
import json
from pathlib import Path

import pytest

from alignflow.server.pools import COMMAND, CRASHED_AFTER_S, job_template, pools
from alignflow.server.settings import ServerSettings


@pytest.fixture(scope="module")
def workers():
    """What the server says about kinds of workers, from the file that it reads."""
    import importlib.util

    package = Path(importlib.util.find_spec("prefect").origin).parent
    return json.loads((package / "server/api/collections_data/views/aggregate-worker-metadata.json").read_text())


def test_a_run_cannot_name_a_command(workers, tmp_path):
    assert "command" in workers["prefect"]["process"]["default_base_job_configuration"]["variables"]["properties"]
    template = job_template(workers, tmp_path)
    assert "command" not in template["variables"]["properties"]
    assert template["job_configuration"]["command"].endswith(" -m alignflow.server.flow_run"), (
        "and no {{ variable }} in it"
    )


def test_a_run_cannot_set_its_environment_or_directory(workers, tmp_path):
    """As Prefect's worker itself makes the process's configuration of it; `env` is not even there, for Prefect merges into one that is."""
    from prefect.workers.process import ProcessJobConfiguration

    template = job_template(workers, tmp_path)
    assert set(template["variables"]["properties"]) <= {"name", "labels", "stream_output"}
    bait = {
        "command": "touch bait",
        "env": {"PYTHONPATH": "/bait"},
        "env.LD_PRELOAD": "/bait.so",
        "working_dir": "/bait",
        "name": "mine",
    }
    made = asyncio.run(ProcessJobConfiguration.from_template_and_values(template, bait, client=object()))
    assert made.command == COMMAND and made.env == {} and made.working_dir == tmp_path and made.name == "mine"


def test_a_dead_run_is_found_in_time():
    assert CRASHED_AFTER_S + 10 < 120


def test_stages_for_a_gpu_have_a_pool_of_their_own_where_asked_for():
    assert len(set(pools(ServerSettings()).values())) == 1
    assert len(set(pools(ServerSettings(gpu_pool=True)).values())) == 2
