"""A worker on another machine: what it is told, and what it becomes."""

import os
import sys

import pytest

from alignflow.data.errors import UserError
from alignflow.server import remote_worker
from alignflow.server.environment import MARK
from alignflow.server.layout import Home


@pytest.fixture
def home(tmp_path):
    made = Home(tmp_path / "store")
    made.make()
    made.login()
    return made


@pytest.fixture
def pools(monkeypatch):
    """A server with these pools; the last one asked for is kept."""
    known = {"alignflow": {"name": "alignflow"}}

    class Api:
        def __init__(self, home, settings, url=""):
            self.url = f"{url or settings.url}/api"

        def get(self, path):
            return known.get(path.rpartition("/")[2])

        def post(self, path, body):
            return list(known.values())

    monkeypatch.setattr(remote_worker, "Api", Api)
    return known


def test_a_store_without_a_server_is_told(tmp_path):
    with pytest.raises(UserError, match="no server"):
        remote_worker.become_worker(Home(tmp_path / "store"), "alignflow", "")


def test_a_pool_that_is_not_there_is_told_with_those_that_are(home, pools):
    with pytest.raises(UserError) as raised:
        remote_worker.become_worker(home, "alignflow-gpu", "")
    assert "alignflow-gpu" in raised.value.what and "it has alignflow;" in raised.value.do


def test_it_becomes_prefects_worker_with_the_stores_login_in_the_environment_alone(home, pools, monkeypatch):
    became = []
    monkeypatch.setattr(os, "execve", lambda *what: became.append(what))
    monkeypatch.setenv(MARK, "something")
    remote_worker.become_worker(home, "alignflow", "https://runs.example.org/")
    ((program, command, environment),) = became
    assert (
        program == sys.executable
        and command[1:6] == ["-P", "-m", "prefect", "worker", "start"]
        and "alignflow" in command
    )
    assert environment["PREFECT_API_URL"].startswith("https://runs.example.org/") and environment[
        "ALIGNFLOW_HOME"
    ] == str(home.store)
    assert environment["PREFECT_API_AUTH_STRING"] == home.login() and home.login() not in " ".join(command)
    assert environment["PATH"].split(os.pathsep)[0] == os.path.dirname(sys.executable) and MARK not in environment
