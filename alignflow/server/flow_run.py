"""How a worker starts a flow run: `python -m alignflow.server.flow_run`, with the run's id in the environment.

A worker reads the output of its runs through a pipe. If the worker dies, the next line that a run prints would kill it
too. So the run first gets its own log and session, and then becomes Prefect's engine.
"""

import importlib
import os
import runpy
import sys
from pathlib import Path

from alignflow import collector
from alignflow.data.errors import UserError
from alignflow.server.working_directory import refuse_prefect_files

LOGS = "ALIGNFLOW_RUN_LOGS"
"""Directory of the flow runs' logs."""


FLOWS = "alignflow.flows.deployed"
"""The module of our flows. We import it before Prefect does: Prefect puts the working directory first in the module search
path while it imports a flow's module, so a `pandas.py` there would run."""


def main() -> None:
    """Leave the worker's pipe and group, and run Prefect's engine in this process."""
    log = os.open(
        Path(os.environ[LOGS]) / f"{os.environ['PREFECT__FLOW_RUN_ID']}.log",
        os.O_WRONLY | os.O_CREAT | os.O_APPEND,
        0o600,
    )
    sys.stdout.flush()
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
    if os.getpid() != os.getsid(0):
        os.setsid()
    try:
        refuse_prefect_files(Path.cwd())
    except UserError as error:
        sys.exit(f"alignflow: {error}")
    with collector.paused():
        importlib.import_module(FLOWS)
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
