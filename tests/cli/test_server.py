"""`up`, `down` and `status` where nothing is started, and which server a run takes."""

import contextlib
import json
import os
import subprocess
import sys
import urllib.request

import pytest
from cli_support import alignflow
from server_support import free_port

from alignflow.cli import settings
from alignflow.cli.settings import become_client, configure_prefect, on_a_server
from alignflow.server.errors import ServerError
from alignflow.server.layout import Home


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--host", "0.0.0.0"), "other machines can reach this address"),
        (("--tls-certificate", "nowhere.pem"), "TLS needs both files"),
        (("--database", "mysql://me:s3cret@here/runs"), "unknown kind of database"),
        (("--database", "postgresql://me:s3cret@127.0.0.1:1/runs"), "the database cannot be used"),
        (("--host", "192.0.2.7", "--insecure"), "no such address"),
    ],
)
def test_up_refuses_before_it_starts_anything(store, arguments, message):
    done = alignflow("up", "--port", str(free_port()), *arguments)  # somebody may have a server on the usual one
    assert done.returncode == 2 and message in done.stderr and "s3cret" not in done.stderr
    assert "nothing is up" in alignflow("down").stdout and not (store.root / "prefect" / "server.json").exists()


def test_status_of_nothing_is_not_healthy(store):
    done = alignflow("status")
    assert done.returncode == 1 and "server" in done.stdout
    told = alignflow("status", "--json")
    found = json.loads(told.stdout)
    assert told.returncode == 1 and found["healthy"] is False and "not started" in found["server"]["problem"]


def test_the_commands_import_neither_prefect_nor_torch():
    code = "import alignflow.cli.server, sys; assert not {'prefect', 'torch', 'sqlalchemy', 'uvicorn'} & sys.modules.keys()"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.fixture
def environment(monkeypatch):
    """An environment that a test may change, without a server in it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    monkeypatch.setattr(os, "environ", kept)
    return kept


def test_a_run_takes_the_server_that_is_up_on_its_store(store, environment, monkeypatch):
    found = {"PREFECT_API_URL": "http://127.0.0.1:4300/api", "PREFECT_API_AUTH_STRING": "alignflow:x"}
    monkeypatch.setattr(settings, "running_server", lambda home: found if home == Home(store.root) else None)
    environment["HOME"] = str(store.root)
    assert configure_prefect(store.root) == "Prefect server at http://127.0.0.1:4300/api"
    assert environment.items() >= found.items() and environment["PREFECT_LOGGING_LEVEL"] == "INFO"
    assert "PREFECT_LOGGING_TO_API_ENABLED" not in environment, "the run's log is to be on its page"


def test_a_server_that_the_user_named_wins(store, environment, monkeypatch):
    environment["PREFECT_API_URL"] = "http://127.0.0.1:1/api"
    monkeypatch.setattr(settings, "running_server", lambda home: pytest.fail("not asked"))
    monkeypatch.setattr(urllib.request, "urlopen", lambda *arguments, **options: contextlib.nullcontext())
    assert configure_prefect(store.root).endswith("http://127.0.0.1:1/api")


def test_without_a_server_prefect_may_start_none_itself(store, environment):
    """Its own has no login; `server.temporary` starts ours."""
    environment["HOME"] = str(store.root)
    assert configure_prefect(store.root) == "" and not on_a_server()
    assert environment["PREFECT_SERVER_EPHEMERAL_ENABLED"] == "false"


def test_the_login_of_a_runs_own_server_leaves_the_environment_again(environment):
    with become_client({"PREFECT_API_URL": "http://127.0.0.1:1/api", "PREFECT_API_AUTH_STRING": "alignflow:x"}):
        assert environment["PREFECT_API_AUTH_STRING"] == "alignflow:x"
    assert "PREFECT_API_AUTH_STRING" not in environment


def test_a_server_that_hangs_is_told_and_not_replaced(store, environment, monkeypatch):
    def hangs(home):
        raise ServerError("the server of this store runs but does not answer")

    environment["HOME"] = str(store.root)
    monkeypatch.setattr(settings, "running_server", hangs)
    with pytest.raises(ServerError):
        configure_prefect(store.root)
