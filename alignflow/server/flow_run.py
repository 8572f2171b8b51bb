"""How a worker starts a flow run: `python -m alignflow.server.flow_run`, with the run's id in the environment.

A worker reads what its runs print through a pipe. When the worker dies, the next line that a run prints would kill it
too. So the run gets a log of its own first, and a session of its own, and then becomes Prefect's engine.
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
"""The directory of the logs of flow runs."""


FLOWS = "alignflow.flows.deployed"
"""The module of our flows, imported before Prefect asks for it: Prefect puts the working directory first in the module search
path while it imports a flow's module, so that a `pandas.py` there would be run."""


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
