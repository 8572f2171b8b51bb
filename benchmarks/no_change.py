"""How long a run takes when nothing has to be done, beside an empty Prefect flow started the same way.

`python benchmarks/no_change.py [RECIPE] [--pairs 5] [--server]`: makes sure that the recipe's results are in the store, then
starts `alignflow run`, an empty flow and `alignflow plan` in turn, each in a process of its own, and prints minimum and
median of each and the ratio of the medians. Without `--server` both flows use Prefect's temporary server inside their
process; with it a server is started first and both use that one.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
EMPTY_FLOW = """
from pathlib import Path
from alignflow.cli.settings import configure_prefect
configure_prefect(Path({store!r}))
from prefect import flow

@flow(name="empty", persist_result=False)
def empty():
    return None

empty()
"""


def main() -> None:
    """Time the three commands in turn and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="recipes/tiny.yaml")
    parser.add_argument("--pairs", type=int, default=5, help="how often each command is timed")
    parser.add_argument("--server", action="store_true", help="start a Prefect server first, and use it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, _server(home) if arguments.server else contextlib.nullcontext({}) as server:
        environment = {"ALIGNFLOW_HOME": os.environ.get("ALIGNFLOW_HOME", str(ROOT / ".alignflow")), **os.environ, **server}
        commands = {
            "alignflow run, all cached": [sys.executable, "-m", "alignflow", "run", arguments.recipe],
            "empty Prefect flow": [sys.executable, "-c", EMPTY_FLOW.format(store=environment["ALIGNFLOW_HOME"])],
            "alignflow plan": [sys.executable, "-m", "alignflow", "plan", arguments.recipe],
        }
        for command in commands.values():  # the first round makes what is missing, and warms the disk cache
            _time(command, environment)
        seconds = {name: [] for name in commands}
        for _ in range(arguments.pairs):
            for name, command in commands.items():
                seconds[name].append(_time(command, environment))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print("| command | minimum, s | median, s |\n| --- | --- | --- |")
    for name, values in seconds.items():
        print(f"| {name} | {min(values):.2f} | {medians[name]:.2f} |")
    print(f"\nrun / empty flow: {medians['alignflow run, all cached'] / medians['empty Prefect flow']:.2f}")


def _time(command: list[str], environment: dict[str, str]) -> float:
    started = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command[:4])} ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
    return time.monotonic() - started


@contextlib.contextmanager
def _server(home: str) -> Iterator[dict[str, str]]:
    """A Prefect server on a free port of the loopback; yields the environment that names it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {
        **os.environ, "PREFECT_HOME": home, "PREFECT_SERVER_API_HOST": "127.0.0.1", "PREFECT_SERVER_API_PORT": port,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1",
    }  # fmt: skip
    with (Path(home) / "server.log").open("w") as log:
        server = subprocess.Popen([sys.executable, "-m", "prefect", "server", "start"], env=environment, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}/api"
            _wait_for(url, server)
            yield {"PREFECT_API_URL": url, "PREFECT_HOME": home}
        finally:
            server.terminate()
            server.wait(30)


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 120
    while server.poll() is None and time.monotonic() < end:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=2).close()
            return
        except OSError:
            time.sleep(0.2)
    sys.exit("the Prefect server did not start")


if __name__ == "__main__":
    main()
