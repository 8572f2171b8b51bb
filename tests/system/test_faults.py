"""A server, its worker or a training dies by kill -9 under a deployed run: what is shown is right, and the result has the same bytes.

One server on a copy of the finished store; the tests build on each other, in the order of the file. A failure is told to a webhook.
"""

import contextlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading

import pytest
from server_support import Server, give_history
from system_support import REPOSITORY, TINY
from waiting import wait_until

from alignflow.data.host import started
from alignflow.server import processes
from alignflow.server.pools import POOL
from alignflow.tasks.store.artifact_store import ArtifactStore

# Long enough to be killed in, with a state behind it.
SETTINGS = {"max_steps": 60, "save_steps": 5, "logging_steps": 5}
SETS = [f"--set=align.{name}={value}" for name, value in SETTINGS.items()]


@pytest.fixture(scope="module")
def server(finished, tmp_path_factory, history):
    """A server that is up on a copy of the finished store."""
    made = Server(tmp_path_factory.mktemp("faults"))
    finished.copy(made.home.store)
    give_history(made.home.store, history)
    made("up", "--port", made.port)
    yield made
    made("down")


@pytest.fixture(scope="module")
def undisturbed(finished, tmp_path_factory):
    """The digest of the training that nobody killed."""
    runner = finished.copy(tmp_path_factory.mktemp("undisturbed") / "store")
    runner.run("--until", "align", *SETS)
    return newest(runner.store)


def newest(store):
    """The digest of the last training that was published."""
    return next(ArtifactStore(store).manifests("align")).digest


def start(server, **parameters):
    """Start `align` by its deployment; its id once the training has a state that it could go on from, and the child's process."""
    run = server.start("align", recipe=str(REPOSITORY / TINY), settings=SETTINGS, **parameters)
    return run, wait_until(lambda: training_child(server.home.store))


def training_child(store):
    """The process that trains, once it has saved a state; None before."""
    for spec in (store / "staging").glob("align-*/spec.json"):
        states = list((store / "work" / spec.parent.name).glob("*/step-*")) or list(
            (store / "work" / spec.parent.name).glob("step-*")
        )
        child = process_of(f"alignflow.worker {spec}")
        if child and states:
            return child
    return None


def process_of(part):
    """The process, not its supervisor, that was started with these words."""
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if entry.isdigit():
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    words = file.read().decode(errors="replace").replace("\0", " ")
                if part in words and "supervise.py" not in words:
                    return int(entry)
    return None


class Webhook(http.server.BaseHTTPRequestHandler):
    """Keeps what it was sent."""

    told = []

    def do_POST(self):
        self.told.append(json.loads(self.rfile.read(int(self.headers["content-length"])))["text"])
        self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def webhook(server):
    """What a web address was told, after the example of docs/operate.md has named it to the server."""
    listener = http.server.HTTPServer(("127.0.0.1", 0), Webhook)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    lines = server("status", "--environment").splitlines()
    names = ("PREFECT_", "DO_NOT_TRACK=", "NO_PROXY=", "no_proxy=")
    assert all(line.removeprefix("export ").startswith(names) and line.startswith("export ") for line in lines), lines
    script = f'eval "$({sys.executable} -m alignflow status --environment)"; exec {sys.executable} {REPOSITORY}/examples/notify_on_failure.py "$1"'
    done = subprocess.run(
        ["sh", "-c", script, "sh", f"http://127.0.0.1:{listener.server_port}/"],
        env=server.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    yield Webhook.told
    listener.shutdown()


def test_a_training_child_that_is_killed_fails_its_run_and_a_rerun_goes_on_to_the_same_bytes(
    server, undisturbed, webhook
):
    run, child = start(server)
    os.kill(child, signal.SIGKILL)
    state = server.ended(run)
    assert state["type"] == "FAILED" and "killed by signal 9" in state["message"]
    again = server.start("align", recipe=str(REPOSITORY / TINY), settings=SETTINGS)
    assert server.ended(again)["type"] == "COMPLETED"
    log = server.api.post("/logs/filter", {"logs": {"flow_run_id": {"any_": [again]}}, "limit": 200})
    assert any("resumed after step" in line["message"] for line in log), [line["message"] for line in log]
    assert newest(server.home.store) == undisturbed


def test_the_failure_was_told_to_the_webhook_with_its_reason(server, webhook):
    # A busy server may tell it twice: Prefect promises that a message is sent at least once.
    for message in wait_until(lambda: list(webhook)):
        assert (
            message.startswith("tiny align ")
            and ": Failed" in message
            and "killed by signal 9" in message
            and f"{server.url}/" in message
        )


def test_a_run_whose_worker_was_killed_completes_with_the_same_bytes(server, undisturbed):
    run, child = start(server, force=True)
    os.kill(server.pid(f"worker-{POOL}"), signal.SIGKILL)
    assert server.state(run)["type"] == "RUNNING"
    assert server.ended(run)["type"] == "COMPLETED"
    assert newest(server.home.store) == undisturbed and not started(child)


def test_a_worker_that_was_started_elsewhere_does_the_runs_of_its_pool(server, tmp_path):
    """Beside the server, but by the store alone, from another directory; the server's own worker is dead."""
    with (tmp_path / "log").open("w") as log:
        worker = subprocess.Popen(
            server.command("worker", "--pool", POOL), env=server.environment, cwd=tmp_path, stdout=log, stderr=log
        )
    try:
        run = server.start("prepare", recipe=str(REPOSITORY / TINY))
        assert server.ended(run)["type"] == "COMPLETED", (tmp_path / "log").read_text()
        assert run in (tmp_path / "log").read_text() and processes.known(server.home)[f"worker-{POOL}"].alive is False
    finally:
        worker.send_signal(signal.SIGINT)
        worker.wait(30)
    assert f"started worker-{POOL}" in server("up")


def test_a_run_whose_server_was_killed_completes_with_the_same_bytes(server, undisturbed):
    run, child = start(server, force=True)
    os.kill(server.pid("server"), signal.SIGKILL)
    assert started(child)
    assert "started server" in server("up")
    assert server.ended(run)["type"] == "COMPLETED"
    assert newest(server.home.store) == undisturbed
    assert json.loads(server("status", "--json"))["healthy"]


def test_cancelling_leaves_no_process_and_no_lock(server):
    run, child = start(server, force=True)
    key = next((server.home.store / "staging").glob("align-*/spec.json")).parent.name.partition(".")[0]
    assert ArtifactStore(server.home.store).is_locked(key)
    server.api.post(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
    wait_until(
        lambda: process_of(f"alignflow.worker {server.home.store}") is None and not started(child), 30
    )  # ended, and reaped
    assert server.ended(run)["type"] == "CANCELLED"
    assert not ArtifactStore(server.home.store).is_locked(key)
