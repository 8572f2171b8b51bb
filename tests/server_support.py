"""A store with the server of `alignflow up`, driven by the command line and looked at through its API."""

import os
import shutil
import socket
import subprocess
import sys

from system_support import REPOSITORY
from waiting import PATIENCE_S, wait_until

from alignflow.server import processes
from alignflow.server.api import Api
from alignflow.server.environment import MARK, worker_environment
from alignflow.server.layout import Home
from alignflow.server.pools import POOL
from alignflow.tasks.store.artifact_store import ArtifactStore

WATCH = """
import os, sys

def listen(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        peer = arguments[1][0]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        peer = arguments[0]
    else:
        return
    descriptor = os.open(os.environ["ALIGNFLOW_WATCHED_PEERS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, f"{peer} {sys.argv[0] if hasattr(sys, 'argv') else ''}\\n".encode())
    os.close(descriptor)

sys.addaudithook(listen)
"""
"""Has every Python process write down whom it connects to or asks the address of, before it does."""


def give_history(store, history):
    """Begin a store, or go on with one, in which the tables of Prefect's database are made already.

    Args:
        store: The directory.
        history: The database: the fixture `history`.
    """
    ArtifactStore(store)
    home = Home(store)
    home.make()
    shutil.copy(history, home.alone)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Server:
    """A store with a server, driven by the command line."""

    def __init__(self, folder):
        self.folder, self.port, self.home = folder, free_port(), Home(folder / "store")
        self.peers = folder / "peers"
        (folder / "patches").mkdir()
        (folder / "patches" / "sitecustomize.py").write_text(WATCH)

    @property
    def environment(self):
        mine = {
            "ALIGNFLOW_HOME": str(self.home.store),
            "PYTHONPATH": str(self.folder / "patches"),
            "ALIGNFLOW_WATCHED_PEERS": str(self.peers),
        }
        outer = {
            name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")
        }  # as a person has it
        return {**outer, **mine, "COLUMNS": "200"}

    def command(self, *arguments):
        return [sys.executable, "-m", "alignflow", *map(str, arguments)]

    def __call__(self, *arguments, status=0):
        done = subprocess.run(
            self.command(*arguments), env=self.environment, cwd=self.folder, capture_output=True, text=True, timeout=400
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    @property
    def api(self):
        return Api(self.home, self.home.settings())

    @property
    def url(self):
        return self.home.settings().url

    def pid(self, name):
        return processes.known(self.home)[name].pid

    def deploy(self):
        environment = {**worker_environment(self.home, self.home.settings()), **self.environment}
        environment.pop(MARK)
        script = REPOSITORY / "tests" / "system" / "served_flows.py"
        subprocess.run([sys.executable, script, POOL], env=environment, check=True, capture_output=True, timeout=200)

    def start(self, flow, job_variables=None, **parameters):
        deployment = self.api.get(f"/deployments/name/{flow}/{flow}")["id"]
        body = {"parameters": parameters, "job_variables": job_variables or {}}
        return self.api.post(f"/deployments/{deployment}/create_flow_run", body)["id"]

    def state(self, run):
        return self.api.get(f"/flow_runs/{run}")["state"]

    def ended(self, run, seconds=PATIENCE_S):
        return wait_until(
            lambda: self.state(run)["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") and self.state(run),
            seconds,
        )
