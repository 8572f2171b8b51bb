"""How long a run takes when nothing has to be done, beside an empty Prefect flow started the same way.

`python benchmarks/no_change.py [RECIPE] [--pairs 5] [--server | --worker]`: makes the recipe's results in a store of its own,
then does the run and an empty flow in turn, and prints minimum and median of each and the ratio of the medians.

Plain, `alignflow run`, the flow and `alignflow plan` are processes of their own: the flow has a temporary server, and the run, which finds
every step, has none. With
`--server` they use the server of `alignflow up`. With `--worker` both flows are deployments, timed from the request to the end
of the run by the server's clock; what the worker does before the run's process begins is in it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from alignflow.server.api import Api
from alignflow.server.environment import worker_environment
from alignflow.server.layout import Home
from alignflow.server.pools import POOL

ROOT = Path(__file__).parents[1]
IN_PROCESS = """
from pathlib import Path
from alignflow.cli.settings import configure_prefect
from alignflow.cli.shown import start_own_server
from alignflow.tasks.store.artifact_store import ArtifactStore
if not configure_prefect(Path({store!r})):
    start_own_server(ArtifactStore(Path({store!r})), print).wait()
from prefect import flow

@flow(name="empty", persist_result=False)
def empty():
    return None

empty()
"""
DEPLOYED = """
from pathlib import Path
from prefect import flow

@flow(name="empty", persist_result=False)
def empty():
    return None

if __name__ == "__main__":
    loaded = flow.from_source(source=str(Path(__file__).parent), entrypoint=f"{Path(__file__).name}:empty")
    loaded.deploy("empty", work_pool_name="POOL", build=False, push=False, print_next_steps=False, ignore_warnings=True)
"""
RUN, EMPTY = "run, all cached", "empty Prefect flow"


def main() -> None:
    """Time the run and the flow in turn and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="recipes/tiny.yaml")
    parser.add_argument("--pairs", type=int, default=5, help="how often each is timed")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--server", action="store_true", help="start a server first, and use it")
    way.add_argument("--worker", action="store_true", help="have the worker of a server do both")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="alignflow-benchmark-"))
    environment = {**os.environ, "ALIGNFLOW_HOME": str(folder / "store")}
    recipe = str((ROOT / given.recipe).absolute())
    try:
        call(["run", recipe], environment)
        if given.server or given.worker:
            call(["up", "--port", str(free_port())], environment)
        ways = by_worker(folder, recipe, environment) if given.worker else by_command(folder, recipe, environment)
        report(timed(ways, given.pairs))
    finally:
        call(["down"], environment)
        shutil.rmtree(folder, ignore_errors=True)


def timed(ways: dict[str, Callable[[], float]], pairs: int) -> dict[str, list[float]]:
    """Seconds of each, done in turn; the first round warms the disk's cache and does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(pairs + 1):
        for name, way in ways.items():
            took = way()
            if number:
                seconds[name].append(took)
    return seconds


def report(seconds: dict[str, list[float]]) -> None:
    """Print minimum and median of each, and the ratio of the medians."""
    print("| what | minimum, s | median, s |\n| --- | --- | --- |")
    for name, values in seconds.items():
        print(f"| {name} | {min(values):.2f} | {statistics.median(values):.2f} |")
    print(f"\nrun / empty flow: {statistics.median(seconds[RUN]) / statistics.median(seconds[EMPTY]):.2f}")


def by_command(folder: Path, recipe: str, environment: dict[str, str]) -> dict[str, Callable[[], float]]:
    """The run and the flow as processes."""
    code = IN_PROCESS.format(store=str(folder / "store"))
    return {
        RUN: lambda: call(["run", recipe], environment),
        EMPTY: lambda: call(["-c", code], environment, program=[sys.executable]),
        "plan": lambda: call(["plan", recipe], environment),
    }


def by_worker(folder: Path, recipe: str, environment: dict[str, str]) -> dict[str, Callable[[], float]]:
    """The run and the flow as deployments of one worker."""
    home = Home(folder / "store")
    api = Api(home, home.settings())
    script = folder / "empty_flow.py"
    script.write_text(DEPLOYED.replace("POOL", POOL))
    call([str(script)], {**environment, **worker_environment(home, home.settings())}, program=[sys.executable])
    return {
        RUN: lambda: deployed(api, "pipeline", {"recipe": recipe}),
        EMPTY: lambda: deployed(api, "empty", {}),
    }


def deployed(api: Api, name: str, parameters: dict[str, str]) -> float:
    """Seconds from the request of a run to its end, as the server saw them."""
    deployment = api.get(f"/deployments/name/{name}/{name}")
    run = api.post(f"/deployments/{deployment['id']}/create_flow_run", {"parameters": parameters})
    while (found := api.get(f"/flow_runs/{run['id']}"))["state"]["type"] not in ("COMPLETED", "FAILED", "CRASHED"):
        time.sleep(0.5)
    if found["state"]["type"] != "COMPLETED":
        sys.exit(f"{name} ended as {found['state']['name']}: {found['state']['message']}")
    return (datetime.fromisoformat(found["end_time"]) - datetime.fromisoformat(run["created"])).total_seconds()


def call(arguments: list[str], environment: dict[str, str], program: list[str] | None = None) -> float:
    """Run `alignflow`, or another program, to its end; returns its seconds."""
    command = [*(program or [sys.executable, "-m", "alignflow"]), *arguments]
    started = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command[:4])} ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
    return time.monotonic() - started


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


if __name__ == "__main__":
    main()
