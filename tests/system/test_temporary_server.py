"""The server of one run: nobody but the run may use it, and nothing is left of it once the run has ended, however it ended."""

import base64
import contextlib
import http.client
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest
from server_support import give_history
from system_support import REPOSITORY
from tiny_model import make_checkpoint
from waiting import wait_until

LEAVES_S = 5.0
"""How long a process may outlive its run."""
ENDS_S = 3.0
"""How long a run may take to end after Ctrl-C."""
PAUSE = """
import json, sys, time
from pathlib import Path
if "alignflow.worker" in sys.orig_argv and json.loads(Path(sys.orig_argv[-1]).read_text())["stage"] == {stage!r}:
    Path({paused!r}).touch()
    time.sleep(600)
"""
"""Has the worker of one stage pause as it starts."""


class Run:
    """`alignflow run` as a person has it: no server is up, none is named; one of its stages pauses."""

    def __init__(self, folder, *arguments, terminal=False, stage="init", command="run"):
        (folder / "patches").mkdir(exist_ok=True)
        self.store, self.paused = folder / "store", folder / "paused"
        (folder / "patches" / "sitecustomize.py").write_text(PAUSE.format(stage=stage, paused=str(self.paused)))
        self.paused.unlink(missing_ok=True)
        outer = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        self.environment = {
            **outer,
            "ALIGNFLOW_HOME": str(self.store),
            "HOME": str(folder),
            "PYTHONPATH": f"{folder / 'patches'}:{REPOSITORY}",
            "COLUMNS": "200",
        }
        line = [sys.executable, "-m", "alignflow", command, *map(str, arguments)]
        self.log = folder / "output"
        if terminal:
            self._start_on_terminal(line)
        else:
            with self.log.open("w") as output:
                self.process = subprocess.Popen(
                    line, cwd=REPOSITORY, env=self.environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL
                )
        self._family = {}

    def _start_on_terminal(self, line):
        """With a terminal of its own, whose foreground group it is in."""
        self.terminal, slave = pty.openpty()
        self.process = subprocess.Popen(
            ["sh", "-c", 'exec "$@"', "sh", *line],
            cwd=REPOSITORY,
            env=self.environment,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),
        )
        os.close(slave)

    def read_terminal(self):
        said = b""
        with contextlib.suppress(OSError):
            while part := os.read(self.terminal, 65536):
                said += part
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said.decode(errors="replace")).replace("\r", "\n")

    @property
    def output(self):
        return self.log.read_text()

    def family(self):
        """Every process that the run started, directly or not; remembered once it was seen."""
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                self._family[child.pid] = child
        return [
            child for child in self._family.values() if child.is_running() and child.status() != psutil.STATUS_ZOMBIE
        ]

    def server(self):
        """The process that listens for the run; None before."""
        for child in self.family():
            with contextlib.suppress(psutil.Error):
                if any(found.status == psutil.CONN_LISTEN for found in child.net_connections("tcp")):
                    return child
        return None

    def at_work(self):
        wait_until(lambda: self.paused.exists() or self.process.poll() is not None, 240)
        assert self.paused.exists(), self.output if self.log.exists() else self.read_terminal()
        wait_until(lambda: len(self.family()) >= 3, 20)

    def port(self):
        return next(
            found.laddr.port for found in self.server().net_connections("tcp") if found.status == psutil.CONN_LISTEN
        )

    def left(self, seconds=LEAVES_S):
        """What of the run is alive this long after now."""
        end = time.monotonic() + seconds
        while (left := self.family()) and time.monotonic() < end:
            time.sleep(0.05)
        return [(child.pid, child.cmdline()) for child in left]


@pytest.fixture
def start(tmp_path, history):
    runs = []
    give_history(tmp_path / "store", history)

    def started(*arguments, **more):
        runs.append(Run(tmp_path, *arguments, **more))
        return runs[-1]

    yield started
    for run in runs:
        family = run.family()
        with contextlib.suppress(ProcessLookupError):
            run.process.kill()
        run.process.wait()
        for child in family:
            with contextlib.suppress(psutil.Error):
                child.kill()


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A run whose stage is at work, and its server with it."""
    run = Run(tmp_path_factory.mktemp("attacked"), "recipes/tiny.yaml", "--until", "init")
    run.at_work()
    yield run
    run.process.kill()
    run.process.wait()
    assert not run.left()


def ask(run, method, path, body=None, **headers):
    """Status, headers and text of an answer to somebody who does not know the login."""
    connection = http.client.HTTPConnection("127.0.0.1", run.port(), timeout=20)
    connection.putrequest(method, path, skip_host=True)
    data = json.dumps(body).encode() if body is not None else b""
    given = {
        "Host": f"127.0.0.1:{run.port()}",
        "Content-Type": "application/json",
        "Content-Length": str(len(data)),
        **headers,
    }
    for name, value in given.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders(data)
    answer = connection.getresponse()
    return (
        answer.status,
        {name.lower(): value for name, value in answer.getheaders()},
        answer.read().decode(errors="replace"),
    )


def shake(run, path, **headers):
    """The status of an attempt to open a websocket."""
    key = base64.b64encode(os.urandom(16)).decode()
    return ask(
        run,
        "GET",
        path,
        Upgrade="websocket",
        Connection="Upgrade",
        Sec_WebSocket_Key=key,
        Sec_WebSocket_Version="13",
        Sec_WebSocket_Protocol="prefect",
        **headers,
    )[0]


def login_of(run):
    """The login of the server, as another process of the same user could read it."""
    return run.server().environ()["PREFECT_SERVER_API_AUTH_STRING"]


def authorization(run):
    return f"Basic {base64.b64encode(login_of(run).encode()).decode()}"


FLOW = {"name": "planted"}


def test_nobody_can_plant_or_read_anything_without_the_login(running):
    for path, body in (
        ("/api/flows/", FLOW),
        ("/api/deployments/", {"name": "x", "flow_id": "0" * 32}),
        ("/api/flow_runs/filter", {}),
    ):
        assert ask(running, "POST", path, body)[0] in (401, 403), path
    for path in ("/api/admin/version", "/api/csrf-token?client=x", "/api/version"):
        assert ask(running, "GET", path)[0] == 401, path
    assert ask(running, "GET", "/docs")[0] == ask(running, "GET", "/openapi.json")[0] == 404


def test_a_page_of_another_site_is_refused_even_with_the_login(running):
    for origin in (
        "http://evil.example",
        "null",
        f"http://127.0.0.1:{running.port() + 1}",
        f"http://evil.example:{running.port()}",
    ):
        status, headers, _ = ask(
            running, "POST", "/api/flows/filter", {}, Origin=origin, Authorization=authorization(running)
        )
        assert status == 403 and "access-control-allow-origin" not in headers, origin
        status, headers, _ = ask(
            running, "OPTIONS", "/api/flows/filter", Origin=origin, Access_Control_Request_Method="POST"
        )
        assert status == 403 and "access-control-allow-origin" not in headers, origin


def test_a_forged_host_is_refused(running):
    assert ask(running, "GET", "/api/health", Host="evil.example")[0] == 421
    assert ask(running, "GET", "/api/health", Host=f"evil.example:{running.port()}")[0] == 421
    assert ask(running, "GET", "/api/health")[0] == 200


def test_the_login_alone_changes_nothing_without_a_csrf_token(running):
    assert ask(running, "POST", "/api/flows/", FLOW, Authorization=authorization(running))[0] == 403


@pytest.mark.parametrize("path", ["/api/events/out", "/api/events/in", "/api/logs/out"])
def test_websockets_refuse_pages_of_other_sites(running, path):
    assert shake(running, path, Origin="http://evil.example") == 403
    assert shake(running, path, Host="evil.example") == 403
    assert shake(running, path, Origin=f"http://127.0.0.1:{running.port()}") == 101


def test_it_listens_on_loopback_only_and_serves_no_pages(running):
    listening = [
        found.laddr.ip for found in running.server().net_connections("tcp") if found.status == psutil.CONN_LISTEN
    ]
    assert listening == ["127.0.0.1"]
    status, headers, text = ask(running, "GET", "/")
    assert "<html" not in text.lower() and "default-src 'self'" in headers["content-security-policy"], status


def test_no_command_line_no_file_and_no_stage_has_the_login(running):
    login, server = login_of(running), running.server()
    assert len(login) > 40
    for process in [psutil.Process(running.process.pid), *running.family()]:
        assert login not in " ".join(process.cmdline())
        if process.pid != server.pid:
            assert login not in process.environ().values(), process.cmdline()
    for path in running.store.rglob("*"):
        if path.is_file():
            assert login.partition(":")[2].encode() not in path.read_bytes(), path


def kill_as_the_server_starts(run):
    wait_until(run.server, 120)


def kill_in_a_stage(run):
    run.at_work()


@pytest.mark.parametrize("moment", [kill_as_the_server_starts, kill_in_a_stage])
def test_nothing_outlives_a_run_that_is_killed(start, moment):
    run = start("recipes/tiny.yaml", "--until", "init")
    moment(run)
    assert run.family(), "there is something to leave behind"
    os.kill(run.process.pid, signal.SIGKILL)
    run.process.wait()
    assert not run.left()


def one_line(text):
    lines = [line for line in text.splitlines() if "interrupted" in line]
    assert len(lines) == 1 and "Traceback" not in text and "Error" not in text, text
    return lines[0]


@pytest.mark.parametrize("command", ["run", "label"])
def test_ctrl_c_in_a_terminal_ends_in_three_seconds_with_one_line(start, command, tmp_path):
    if command == "run":
        run = start("recipes/tiny.yaml", "--until", "init", terminal=True)
    else:
        model = make_checkpoint(tmp_path)
        run = start(
            "--prompts", "examples/quickstart/prompts.jsonl.gz", "--model", model, terminal=True, command="label"
        )
    run.at_work()
    begun = time.monotonic()
    os.write(run.terminal, b"\x03")
    said = run.read_terminal()  # until the last process lets go of the terminal
    assert run.process.wait(ENDS_S) == 130
    assert time.monotonic() - begun < ENDS_S
    assert one_line(said) == "alignflow: interrupted in init; run it again to continue with init"
    assert not run.left(max(0.0, LEAVES_S - (time.monotonic() - begun)))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_the_run_alone_ends_it_in_the_same_way(start, number, status):
    run = start("recipes/tiny.yaml", "--until", "init")
    run.at_work()
    begun = time.monotonic()
    run.process.send_signal(number)
    assert run.process.wait(ENDS_S) == status
    assert "interrupted in init" in one_line(run.output) and not run.left(LEAVES_S - (time.monotonic() - begun))


def test_ctrl_c_while_the_server_starts(start):
    run = start("recipes/tiny.yaml", "--until", "init")
    wait_until(run.server, 120)
    begun = time.monotonic()
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(ENDS_S) == 130
    assert "before the first step" in one_line(run.output) and not run.left(LEAVES_S - (time.monotonic() - begun))
