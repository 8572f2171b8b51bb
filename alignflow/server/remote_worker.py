"""A worker on another machine that has the store mounted. It reads the server's address and login from the store."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import NoReturn

from alignflow.data.errors import UserError
from alignflow.safe_path import python
from alignflow.server.api import Api
from alignflow.server.environment import MARK, worker_environment
from alignflow.server.layout import Home
from alignflow.server.working_directory import refuse_prefect_files


def become_worker(home: Home, pool: str, url: str) -> NoReturn:
    """Turn this process into a worker of `pool`. `url` is the server's address as seen from this machine, if it differs from the stored one.

    Raises:
        UserError: the store has had no server yet, or the server has no such pool.
        ServerError: nothing answers there, or it refuses the login.
    """
    if not home.login_file.exists():
        raise UserError(
            "this store has no server",
            where=str(home.store),
            do="run `alignflow up` on the server's machine, with the same store",
        )
    refuse_prefect_files(Path.cwd())
    settings = home.settings()
    api = Api(home, settings, url=url)
    if api.get(f"/work_pools/{pool}") is None:
        known = ", ".join(found["name"] for found in api.post("/work_pools/filter", {}))
        raise UserError(
            f"the server has no work pool {pool!r}",
            where=api.url,
            do=f"it has {known}; `alignflow up --gpu-pool` makes alignflow-gpu",
        )
    home.make()
    environment = {**worker_environment(home, settings), "PREFECT_API_URL": api.url}
    environment.pop(MARK)  # `alignflow down` must not mistake it for a process of the server's machine
    command = python(
        "-m", "prefect", "worker", "start", "--pool", pool, "--name", f"{socket.gethostname()}-{os.getpid()}"
    )
    signal.signal(
        signal.SIGINT, signal.SIG_DFL
    )  # a background job of a shell ignores it, and Prefect's worker would then not end
    os.execve(command[0], [*command, "--type", "process", "--install-policy", "never"], environment)
