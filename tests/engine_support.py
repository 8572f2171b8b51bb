"""Engines in tests: a directory of hosts of their own, whose path is short enough for a socket, and vLLM's interpreter."""

import contextlib
import os
import shutil
import signal
import tempfile
from pathlib import Path

from system_support import missing

from alignflow.data.engine_hosts import VARIABLE
from alignflow.data.vllm_environment import vllm_python


@contextlib.contextmanager
def engine_place():
    """A fresh directory of engines; hosts that are left in it are killed at the end."""
    place, before = Path(tempfile.mkdtemp(prefix="af-")), os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(place)
    try:
        yield place
    finally:
        os.environ.pop(VARIABLE) if before is None else os.environ.update({VARIABLE: before})
        for pid in hosts_in(place):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(place)


def hosts_in(place):
    """Process numbers of the hosts that listen in a directory, from the kernel."""
    import psutil

    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            listens = any(str(path.laddr).startswith(str(place)) for path in process.net_connections("unix"))
            if listens and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def needed_vllm():
    """vLLM's interpreter; the test is skipped where there is none, and fails in the CI."""
    return vllm_python() or missing("vLLM (`make vllm`)")
