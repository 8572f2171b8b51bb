"""Flows are registered by a process of their own."""

import subprocess

import pytest

from alignflow.server import deployments
from alignflow.server.deployments import MODULE, register_deployments
from alignflow.server.errors import ServerError
from alignflow.server.layout import Home
from alignflow.server.settings import ServerSettings


@pytest.fixture
def register(tmp_path, monkeypatch):
    """Register with a process that ends as given; returns its command too."""
    monkeypatch.setattr(deployments, "worker_environment", lambda home, settings: {})

    def run(result):
        commands = []

        def started(command, **_):
            commands.append(command)
            if isinstance(result, Exception):
                raise result
            return result

        monkeypatch.setattr(deployments.subprocess, "run", started)
        return register_deployments(Home(tmp_path), ServerSettings(), tmp_path), commands

    return run


def test_the_names_are_those_that_the_process_prints(register):
    names, (command,) = register(subprocess.CompletedProcess([], 0, "alignflow/pipeline\nalignflow/sft\n", ""))
    assert names == ["alignflow/pipeline", "alignflow/sft"]
    assert command.index(MODULE) < len(command) - 1 and all(
        "=" in pool for pool in command[command.index(MODULE) + 1 :]
    )


def test_a_failure_brings_the_end_of_what_it_said(register):
    with pytest.raises(ServerError, match="could not be registered") as raised:
        register(subprocess.CompletedProcess([], 1, "", "\n".join(f"line {number}" for number in range(40))))
    assert "line 39" in str(raised.value) and "line 20" not in str(raised.value)


def test_one_that_does_not_end_is_an_error(register):
    with pytest.raises(ServerError, match="longer than") as raised:
        register(subprocess.TimeoutExpired("x", 1))
    assert MODULE in str(raised.value)


def test_warnings_of_the_process_are_told_and_nothing_else_that_it_says(register, capsys):
    register(subprocess.CompletedProcess([], 0, "pipeline\n", "a library: old\nwarning: no dashboard\n"))
    assert capsys.readouterr().err == "warning: no dashboard\n"
