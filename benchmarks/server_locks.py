"""How often SQLite is locked under load: flows with mapped tasks against the server of `alignflow up`, by the lines in its log.

Run it with each Python whose Prefect is to be compared: `PYTHON benchmarks/server_locks.py --flows 4 --tasks 60`.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FLOW = """
import sys, time
from prefect import flow, task
from prefect.artifacts import create_markdown_artifact

@task
def work(number):
    time.sleep(0.05)
    return number

@flow
def load(tasks, index):
    done = work.map(range(tasks))
    assert [each.result() for each in done] == list(range(tasks))
    for number in range(5):
        create_markdown_artifact(f"text {number}", key=f"load-{index}-{number}")

load(int(sys.argv[1]), int(sys.argv[2]))
"""


def main() -> None:
    """Start a server, run the flows at the same time, print one line of JSON, stop the server."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flows", type=int, default=4)
    parser.add_argument("--tasks", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measured(Path(folder), options.flows, options.tasks)))


def measured(folder: Path, flows: int, tasks: int) -> dict[str, object]:
    """Versions, seconds of the flows, failed flows, and what the server's log says."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "ALIGNFLOW_HOME": str(folder / "store")}
    script = folder / "load.py"
    script.write_text(FLOW)

    def alignflow(*arguments: str) -> str:
        command = [sys.executable, "-m", "alignflow", *arguments]
        return subprocess.run(command, env=environment, cwd=folder, check=True, capture_output=True, text=True).stdout

    alignflow("up", "--port", str(port))
    try:
        lines = [
            line.removeprefix("export ").partition("=") for line in alignflow("status", "--environment").splitlines()
        ]
        client = {
            **environment,
            **{name: value.strip("'") for name, _, value in lines},
            "PREFECT_LOGGING_LEVEL": "ERROR",
        }
        begun = time.monotonic()
        started = [
            subprocess.Popen(
                [sys.executable, script, str(tasks), str(index)],
                env=client,
                cwd=folder,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for index in range(flows)
        ]
        failed = sum(process.wait() != 0 for process in started)
        seconds = time.monotonic() - begun
        time.sleep(20)  # the server still writes down events
    finally:
        alignflow("down")
    log = (folder / "store/prefect/logs/server.log").read_text(errors="replace")
    return {
        **versions(),
        "flows": flows,
        "tasks": tasks,
        "seconds": round(seconds, 1),
        "failed flows": failed,
        "locked": sum("OperationalError" in line and "database is locked" in line for line in log.splitlines()),
        "tracebacks": log.count("Traceback (most recent call last)"),
        "bulk DML errors": log.count("Can't evaluate bulk DML"),
    }


def versions() -> dict[str, str]:
    """Of what is compared."""
    from importlib.metadata import version

    return {name: version(name) for name in ("prefect", "sqlalchemy", "fastapi")}


if __name__ == "__main__":
    main()
