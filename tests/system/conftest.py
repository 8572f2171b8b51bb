"""Real runs of the command line against a real Prefect server; one finished tiny run that tests copy."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from filelock import FileLock
from system_support import STAGES, Runner

HERE = Path(__file__).parent


LONGEST_FIRST = (
    "test_quickstart",
    "test_server",
    "test_kills",
    "test_adapters",
    "test_schedule",
    "test_rounds",
    "test_pipeline",
    "test_deployments",
    "test_working_directory",
    "test_faults",
    "test_browser",
    "test_processes",
    "test_sweep",
    "test_ppo",
    "test_labels",
    "test_server_engine",
    "test_vllm",
    "test_annotate",
    "test_temporary_server",
    "test_real_data",
    "test_server_start",
    "test_gc",
    "test_gates",
    "test_byte_flips",
    "test_shards",
)
"""Files of this folder by the minutes that they take. A process takes the next file (`--no-loadscope-reorder`), so that the short ones even out the end."""


def place(item):
    """Where a test stands in the order; what is not in the list comes last, in the order in which it was found."""
    name = Path(item.fspath).stem
    return (
        LONGEST_FIRST.index(name) if name in LONGEST_FIRST and Path(item.fspath).parent == HERE else len(LONGEST_FIRST)
    )


def pytest_collection_modifyitems(items):
    items.sort(key=place)
    for item in items:
        if HERE in Path(item.fspath).parents:
            item.add_marker(pytest.mark.system)
            if item.get_closest_marker("timeout") is None:  # whole runs on a machine that may have other work
                item.add_marker(pytest.mark.timeout(1200))


@pytest.fixture(scope="session")
def history(tmp_path_factory, worker_id):
    """An empty database of Prefect with all its tables, one for all processes that run tests; a server makes them in three seconds of CPU."""
    base = tmp_path_factory.getbasetemp()
    home = (base if worker_id == "master" else base.parent) / "history"
    with FileLock(f"{home}.lock"):
        if not home.exists():
            environment = {**os.environ, "PREFECT_HOME": str(home)}
            subprocess.run(
                [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"],
                env=environment,
                check=True,
                capture_output=True,
            )
    return home / "prefect.db"


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory, history):
    """The URL of a Prefect server that lives as long as the session."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    home = tmp_path_factory.mktemp("prefect")
    shutil.copy(history, home)
    environment = {
        **os.environ,
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": port,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    log = (home / "server.log").open("w")
    server = subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start"],
        env=environment,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}/api"
    end = time.monotonic() + 180
    while True:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=2)
            break
        except OSError:
            assert time.monotonic() < end, (home / "server.log").read_text()[-2000:]
            time.sleep(0.5)
    yield url
    os.killpg(server.pid, signal.SIGTERM)
    server.wait(30)


@pytest.fixture(scope="session")
def finished(tmp_path_factory, prefect_server, worker_id):
    """An undisturbed run of the tiny recipe, one for all processes that run tests. Copy it before changing anything."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "finished"
    runner = Runner(folder / "store", prefect_server)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            assert runner.run() == dict.fromkeys(STAGES, True)
    return runner


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished run's store."""
    return finished.copy(tmp_path / "copied")


@pytest.fixture
def empty(tmp_path, prefect_server):
    """A runner on an empty store."""
    return Runner(tmp_path / "empty", prefect_server)


PATCHES = """
import os, signal
if os.environ.get("RAISE_VERSION"):
    from dataclasses import replace
    from alignflow.data import catalogue
    name = os.environ["RAISE_VERSION"]
    catalogue.STAGES[name] = replace(catalogue.STAGES[name], version="raised")
if os.environ.get("DIE_WHILE_PUBLISHING"):
    from alignflow.tasks.store import artifact_store
    written = artifact_store._write_synced
    def write_and_die(path, text):
        if path.name == "manifest.json" and path.parent.name.startswith(os.environ["DIE_WHILE_PUBLISHING"] + "-"):
            path.with_name("manifest.json.tmp").write_text(text[: len(text) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        written(path, text)
    artifact_store._write_synced = write_and_die
"""


@pytest.fixture(scope="session")
def patches(tmp_path_factory):
    """A folder for PYTHONPATH that lets the environment raise a version, or kill a process in the middle of publishing."""
    folder = tmp_path_factory.mktemp("patches")
    (folder / "sitecustomize.py").write_text(PATCHES)
    return str(folder)


@pytest.fixture
def raised(patches):
    """The environment in which a stage has a raised version."""
    return lambda stage: {"PYTHONPATH": patches, "RAISE_VERSION": stage}
