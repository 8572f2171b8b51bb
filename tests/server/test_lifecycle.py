"""How the server's process is started."""

import os
import subprocess

import pytest

from alignflow.data.errors import AlignflowError
from alignflow.server import lifecycle, processes
from alignflow.server.settings import ServerSettings


def test_the_server_runs_the_code_of_the_command_although_the_package_is_not_installed(home, monkeypatch, tmp_path):
    """`-S` hides everything that is installed: the package is found, and the first library that it needs is not."""
    started = []

    def start(home, name, command, environment, directory):
        started.append(command)
        return processes.Process(name, 0, "gone", "")

    monkeypatch.setattr(processes, "start", start)
    with pytest.raises(AlignflowError, match="ended while it started"):
        lifecycle._started(home, ServerSettings(), [])
    ((interpreter, *arguments),) = started
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [interpreter, "-S", *arguments], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert "No module named 'uvicorn'" in done.stderr, done.stderr
