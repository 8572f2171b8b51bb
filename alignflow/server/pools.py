"""Work pools with a fixed command, and an automation that finds dead runs: the server needs both before a run can start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alignflow.server.api import Api
from alignflow.server.environment import HEARTBEAT_S
from alignflow.server.settings import ServerSettings

POOL = "alignflow"
GPU_POOL = "alignflow-gpu"
ZOMBIES = "alignflow: runs that are not heard from"
COMMAND = "python3 -P -m alignflow.server.flow_run"
"""The command with which a pool starts a flow run. It has no path: workers on other machines have Python elsewhere and put it first in their PATH."""
CRASHED_AFTER_S = 3 * HEARTBEAT_S
"""Seconds without a heartbeat after which a run is Crashed. With one evaluation on top, a dead run is found within 120 s."""


def pools(settings: ServerSettings) -> dict[str, str]:
    """Role -> work pool: for flows that need a GPU, and for all others. Both are the same pool unless `--gpu-pool` is set."""
    return {"default": POOL, "gpu": GPU_POOL if settings.gpu_pool else POOL}


def install(api: Api, settings: ServerSettings, directory: Path) -> None:
    """Create or repair the pools and the automation; `directory` is the working directory of flow runs."""
    template = job_template(api.get("/collections/views/aggregate-worker-metadata"), directory)
    for name in sorted(set(pools(settings).values())):
        install_pool(api, name, template)
    install_automation(api)


def job_template(workers: dict[str, Any], directory: Path) -> dict[str, Any]:
    """Prefect's template of process pools with a fixed command and directory, so that no job variable can set them or the environment.

    A deployment can still name code: the worker runs its entrypoint and `pull_steps`. Anyone with the login may create one.

    The template has no field `env` at all. If it had one, even an empty one, Prefect would add the `env` of a deployment or a run to it,
    whether or not the template has a variable of that name.
    """
    template = workers["prefect"]["process"]["default_base_job_configuration"]
    configuration = {**template["job_configuration"], "command": COMMAND, "working_dir": str(directory)}
    del configuration["env"]
    variables = template["variables"]
    properties = {
        name: value for name, value in variables["properties"].items() if name not in ("command", "env", "working_dir")
    }
    return {"job_configuration": configuration, "variables": {**variables, "properties": properties}}


def install_pool(api: Api, name: str, template: dict[str, Any]) -> None:
    """Create a process pool, or give an existing one the template; other settings of the pool stay."""
    found = api.get(f"/work_pools/{name}")
    if found is None:
        limit = {"concurrency_limit": 1} if name == GPU_POOL else {}
        api.post("/work_pools/", {"name": name, "type": "process", "base_job_template": template, **limit})
    elif found["base_job_template"] != template:
        api.patch(f"/work_pools/{name}", {"base_job_template": template})


def install_automation(api: Api) -> None:
    """Make the server mark a run Crashed when its heartbeats stop. Any other event of the run ends the wait."""
    wanted = {
        "name": ZOMBIES,
        "description": "Marks a flow run Crashed that died silently: its heartbeats stopped, and no other state followed.",
        "enabled": True,
        "trigger": {
            "type": "event",
            "posture": "Proactive",
            "after": ["prefect.flow-run.heartbeat"],
            "expect": ["prefect.flow-run.*"],
            "match": {"prefect.resource.id": "prefect.flow-run.*"},
            "for_each": ["prefect.resource.id"],
            "threshold": 1,
            "within": CRASHED_AFTER_S,
        },
        "actions": [
            {
                "type": "change-flow-run-state",
                "state": "CRASHED",
                "name": "Crashed",
                "message": f"The run sent no heartbeat for {CRASHED_AFTER_S} s: its process is gone.",
            }
        ],
    }
    if not api.post("/automations/filter", {"automations": {"name": {"any_": [ZOMBIES]}}}):
        api.post("/automations/", wanted)
