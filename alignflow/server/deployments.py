"""Registers all deployments, in a process that imports the flows. The server touches the flows only here."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from alignflow.safe_path import python
from alignflow.server.environment import worker_environment
from alignflow.server.errors import ServerError
from alignflow.server.layout import Home
from alignflow.server.pools import pools
from alignflow.server.settings import ServerSettings

MODULE = "alignflow.flows.deployments"
TIMEOUT_S = 300
WARNING = "warning: "
"""Prefix of a line that the person who starts the server should see."""


def register_deployments(home: Home, settings: ServerSettings, directory: Path) -> list[str]:
    """Create or update all deployments; returns their names.

    Raises:
        ServerError: the flows cannot be imported, or the server refused a deployment.
    """
    if importlib.util.find_spec(MODULE) is None:
        return []
    command = python("-m", MODULE, *(f"{role}={pool}" for role, pool in pools(settings).items()))
    environment = {**worker_environment(home, settings), "PREFECT_LOGGING_LEVEL": "ERROR"}
    try:
        done = subprocess.run(
            command, env=environment, cwd=directory, capture_output=True, text=True, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        raise ServerError(f"registering the deployments took longer than {TIMEOUT_S} s", where=MODULE) from None
    if done.returncode:
        raise ServerError(
            "the deployments could not be registered", where=MODULE, do=os.linesep.join(done.stderr.splitlines()[-15:])
        )
    for line in done.stderr.splitlines():
        if line.startswith(WARNING):  # the other lines come from libraries
            print(line, file=sys.stderr)
    return done.stdout.split()
