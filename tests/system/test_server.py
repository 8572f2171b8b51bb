"""`alignflow up`, `status` and `down` on real processes: one server for most of the file, a second one with TLS on PostgreSQL.

The tests build on each other, in the order of the file.
"""

import asyncio
import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from server_support import Server, free_port
from system_support import REPOSITORY, missing
from tls_support import make_certificate
from waiting import PATIENCE_S, wait_until

from alignflow.server import processes
from alignflow.server.errors import ServerError
from alignflow.server.pools import POOL, ZOMBIES


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server that is up, with three flows deployed."""
    made = Server(tmp_path_factory.mktemp("server"))
    made("up", "--port", made.port)
    made.deploy()
    yield made
    made("down")


@pytest.fixture(scope="module")
def killed(server):
    """A flow run whose worker was killed, and then it, too: when, its id, and whether it had gone on without its worker."""
    run = server.start("hold", path=str(server.folder / "killed"), until="/nonexistent")
    pid = int(wait_until(lambda: (server.folder / "killed").exists() and (server.folder / "killed").read_text()))
    heartbeat = {
        "filter": {"event": {"name": ["prefect.flow-run.heartbeat"]}, "resource": {"id": [f"prefect.flow-run.{run}"]}}
    }
    wait_until(lambda: server.api.post("/events/filter", heartbeat)["total"])
    log = server.home.run_logs / f"{run}.log"
    os.kill(server.pid(f"worker-{POOL}"), signal.SIGKILL)
    steps = log.read_text().count("step")
    wait_until(lambda: log.read_text().count("step") > steps + 3)
    went_on = processes.birth(pid) is not None and server.state(run)["type"] == "RUNNING"
    os.kill(pid, signal.SIGKILL)
    return datetime.now(UTC), run, went_on


def test_a_flow_run_survives_its_worker(server, killed):
    assert killed[2]


def test_status_tells_a_dead_worker_and_up_starts_only_that(server, killed):
    found = json.loads(server("status", "--json", status=1))
    assert (
        found["server"]["healthy"] and not found["workers"][0]["healthy"] and "ended" in found["workers"][0]["problem"]
    )
    before = server.pid("server")
    assert f"started worker-{POOL}" in server("up")
    assert server.pid("server") == before


def test_up_again_changes_nothing(server, killed):
    before = processes.known(server.home)
    assert "it is up already" in server("up")
    assert processes.known(server.home) == before
    found = json.loads(server("status", "--json"))
    assert (
        found["healthy"]
        and found["deployments"] >= 2
        and found["pools"][0]["name"] == POOL
        and found["url"] == server.url
    )
    assert "another port" in server("up", "--port", server.port + 1, status=2)


def test_the_login_is_shown_to_its_owner_and_to_nobody_else(server):
    login = server.home.login()
    assert login in server("status", "--login")
    assert login not in server("status") + server("up") + server("status", "--json"), (
        "what a log may keep names the file alone"
    )
    assert str(server.home.login_file) in server("status").replace("\n", "")
    password = login.partition(":")[2].encode()
    for pid in processes.marked(server.home):
        with contextlib.suppress(OSError):
            assert password not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert not any(
        path.stat().st_mode & 0o077 for path in (server.home.root, server.home.prefect, server.home.login_file)
    )


def test_nothing_is_told_without_the_login(server):
    assert httpx.get(f"{server.url}/api/health").status_code == 200
    assert httpx.get(f"{server.url}/api/admin/version").status_code == 401
    assert httpx.get(f"{server.url}/api/admin/version", auth=("alignflow", "wrong")).status_code == 401
    assert (
        httpx.get(f"{server.url}/api/admin/version", auth=tuple(server.home.login().split(":", 1))).status_code == 200
    )
    for path in ("openapi.json", "docs", "redoc", "openapi.json%0A", "docs/"):  # of Prefect's API
        assert httpx.get(f"{server.url}/{path}").status_code == 404


def test_a_web_page_elsewhere_can_neither_use_nor_reach_it(server):
    login = tuple(server.home.login().split(":", 1))
    body = {"json": {}, "auth": login}
    assert httpx.get(f"{server.url}/api/health", headers={"Host": "evil.example"}).status_code == 421
    asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    refused = httpx.options(f"{server.url}/api/flows/filter", headers=asked)
    assert refused.status_code == 403 and "access-control-allow-origin" not in refused.headers
    assert httpx.post(f"{server.url}/api/flows/filter", **body).status_code == 403, "no CSRF token"
    forged = {"Prefect-Csrf-Token": "x", "Prefect-Csrf-Client": str(uuid.uuid4())}
    assert httpx.post(f"{server.url}/api/flows/filter", headers=forged, **body).status_code == 403
    assert server.api.post("/flows/filter", {}) is not None


@pytest.mark.parametrize("path", ["/", "/v2/dashboard", "/api/health", "/ui-settings"])
def test_the_browser_is_kept_from_other_hosts(server, path):
    response = httpx.get(f"{server.url}{path}", headers={"Accept": "text/html"}, follow_redirects=True)
    assert response.status_code == 200
    policy = response.headers["content-security-policy"]
    assert (
        "default-src 'self'" in policy
        and "script-src 'self' 'unsafe-eval';" in policy
        and "frame-ancestors 'none'" in policy
    )
    assert f"connect-src 'self' ws://127.0.0.1:{server.port};" in policy


def test_job_variables_cannot_set_the_command_environment_or_directory_of_a_run(server, killed):
    """Neither by a request, which is refused, nor by one that was stored before there was a check."""
    bait, path = server.folder / "bait", server.folder / "noted"
    code = server.folder / "code"
    code.mkdir()
    (code / "sitecustomize.py").write_text(f"open({str(bait)!r}, 'w')")
    for variables in (
        {"command": f"touch {bait}"},
        {"env": {"PYTHONPATH": str(code)}},
        {"env.PYTHONPATH": str(code)},
        {"working_dir": str(code)},
    ):
        with pytest.raises(ServerError, match="403.*job variable"):
            server.start("note", variables, path=str(path))
    with sqlite3.connect(server.home.prefect / "prefect.db", timeout=60) as database:
        planted = json.dumps({"command": f"touch {bait}", "env": {"PYTHONPATH": str(code)}, "working_dir": str(code)})
        assert (
            database.execute("update deployment set infra_overrides = ? where name = 'note'", [planted]).rowcount == 1
        )
    assert server.ended(server.start("note", path=str(path)))["type"] == "COMPLETED"
    assert not bait.exists()
    noted = json.loads(path.read_text())
    assert noted["store"] == str(server.home.store)


def test_the_template_of_its_pool_cannot_be_opened_again(server):
    known = server.api.get(f"/work_pools/{POOL}")["base_job_template"]
    prefects = server.api.get("/collections/views/aggregate-worker-metadata")["prefect"]["process"][
        "default_base_job_configuration"
    ]
    with pytest.raises(ServerError, match="403.*template"):
        server.api.patch(f"/work_pools/{POOL}", {"base_job_template": prefects})
    assert server.api.get(f"/work_pools/{POOL}")["base_job_template"] == known
    server.api.patch(f"/work_pools/{POOL}", {"concurrency_limit": None})


def test_wrong_logins_are_slowed_down_and_the_right_one_is_not_locked_out(server):
    log = server.home.logs / "server.log"
    known = server.api  # a client that is logged in already
    assert known.get("/admin/version")
    begun = time.monotonic()
    for number in range(6):
        assert httpx.get(f"{server.url}/api/admin/version", auth=("alignflow", f"guess-{number}")).status_code == 401
    assert time.monotonic() - begun > 1
    begun = time.monotonic()
    assert known.get("/admin/version") and time.monotonic() - begun < 1
    assert server.api.get("/admin/version") and time.monotonic() - begun < 10
    assert "wrong login from 127.0.0.1" in log.read_text() and "guess-" not in log.read_text()


def test_lists_of_the_pages_come_from_the_package(server):
    assert "process" in server.api.get("/collections/views/aggregate-worker-metadata")["prefect"]


def test_run_uses_the_server_of_its_store(server, killed):
    output = server("run", REPOSITORY / "recipes" / "tiny.yaml", "--until", "init")
    assert f"Prefect server at {server.url}/api" in output
    (run,) = server.api.post("/flow_runs/filter", {"flows": {"name": {"any_": ["pipeline"]}}})
    assert run["state"]["type"] == "COMPLETED"
    logs = {"logs": {"flow_run_id": {"any_": [run["id"]]}}}
    wait_until(lambda: server.api.post("/logs/filter", logs), 20)
    assert "Beginning flow run" not in output, "the terminal shows our lines, the page Prefect's"


@pytest.fixture(scope="module")
def postgresql():
    """The URL of an empty PostgreSQL database with a password; None where none is installed."""
    found = shutil.which("pg_ctl") or next(
        map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), reverse=True)), None
    )
    if found is None:
        yield None
        return
    programs, port = Path(found).resolve().parent, free_port()
    folder = Path(tempfile.mkdtemp(prefix="alignflow-postgresql-"))
    user = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        names = {entry.pw_name for entry in pwd.getpwall()}
        user = {"user": "postgres" if "postgres" in names else "nobody", "extra_groups": []}
        os.chown(folder, pwd.getpwnam(user["user"]).pw_uid, -1)
    (folder / "password").write_text("s3cret")
    (folder / "password").chmod(0o644)

    def call(program, *arguments):
        with (folder / "log").open("a") as log:
            subprocess.run(
                [programs / program, *map(str, arguments)],
                cwd="/",
                stdout=log,
                stderr=log,
                check=True,
                timeout=120,
                **user,
            )

    call(
        "initdb",
        "-D",
        folder / "data",
        "-U",
        "alignflow",
        "--auth=scram-sha-256",
        f"--pwfile={folder / 'password'}",
        "--no-sync",
    )
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    call("pg_ctl", "-D", folder / "data", "-o", options, "-l", folder / "server.log", "-w", "start")
    yield f"postgresql://alignflow:s3cret@127.0.0.1:{port}/postgres"
    call("pg_ctl", "-D", folder / "data", "-m", "immediate", "-w", "stop")
    shutil.rmtree(folder, ignore_errors=True)


async def rows(url, query):
    import asyncpg

    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


def test_a_second_server_in_the_foreground_with_tls_on_postgresql(server, killed, tmp_path, postgresql):
    second, tls = Server(tmp_path), make_certificate(tmp_path)
    assert "another program listens on this port" in second("up", "--port", server.port, status=2)
    assert "other machines can reach this address" in second("up", "--host", "0.0.0.0", status=2)
    wrong = (postgresql or "postgresql://nobody:s3cret@127.0.0.1:1/x").replace("s3cret", "wrong")
    refused = second("up", "--port", second.port, "--database", wrong, status=2)
    assert "the database cannot be used" in refused and "wrong" not in refused.replace("wrong password", "")
    options = [
        "--port",
        second.port,
        "--tls-certificate",
        tls[0],
        "--tls-key",
        tls[1],
        "--database",
        postgresql or "sqlite",
    ]
    with (tmp_path / "output").open("w") as output:
        process = subprocess.Popen(
            second.command("up", "--foreground", *options),
            env=second.environment,
            cwd=tmp_path,
            stdout=output,
            stderr=output,
        )
    wait_until(lambda: process.poll() is not None or "Ctrl-C stops it" in (tmp_path / "output").read_text(), 300)
    assert process.poll() is None, (tmp_path / "output").read_text()
    assert second.home.login().partition(":")[2] not in (tmp_path / "output").read_text(), (
        "an init system keeps what it prints"
    )
    try:
        found = json.loads(second("status", "--json"))
        assert found["url"].startswith("https://") and found["healthy"] and "s3cret" not in json.dumps(found)
        second.deploy()
        assert second.ended(second.start("note", path=str(tmp_path / "noted")))["type"] == "COMPLETED"
        if postgresql:
            assert asyncio.run(rows(postgresql, "select state_type::text from flow_run")) == [("COMPLETED",)]
            assert not (second.home.prefect / "prefect.db").exists()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, (tmp_path / "output").read_text()
    assert processes.marked(second.home) == {} and processes.known(second.home) == {}
    assert "stopped" in (tmp_path / "output").read_text()
    if not postgresql:
        missing("PostgreSQL")


def test_a_run_that_died_without_a_word_is_crashed_within_two_minutes(server, killed):
    died, run, _ = killed
    state = server.ended(run, 150)
    assert state["type"] == "CRASHED" and "sent no heartbeat" in state["message"]
    assert (datetime.fromisoformat(state["timestamp"]) - died).total_seconds() < 120


PAST = "strftime('%Y-%m-%d %H:%M:%f000', {0}, '-1 hour')"
AN_HOUR_AGO = (
    f'update automation_bucket set start = {PAST.format("start")}, "end" = {PAST.format(chr(34) + "end" + chr(34))}'
)
JUST_OVER = """update automation_bucket set start = strftime('%Y-%m-%d %H:%M:%f000', 'now', '-100 seconds'),
 "end" = strftime('%Y-%m-%d %H:%M:%f000', 'now', '-1 second'), count = 0 where bucketing_key like ?"""


def set_window(server, automation, seconds):
    """Have an automation wait so long for the events that it expects; Prefect allows 10 s at least."""
    fields = {name: automation[name] for name in ("name", "description", "enabled", "actions")}
    server.api.put(
        f"/automations/{automation['id']}", {**fields, "trigger": {**automation["trigger"], "within": seconds}}
    )


def test_a_run_that_waits_for_a_person_is_not_taken_for_a_dead_one(server):
    """Whatever becomes of its last events: here it is as if a heartbeat had come after them, and nothing since."""
    run = server.start("ask")
    wait_until(lambda: server.state(run)["type"] == "PAUSED")
    (automation,) = server.api.post("/automations/filter", {"automations": {"name": {"any_": [ZOMBIES]}}})
    set_window(server, automation, 10)  # Prefect looks at this automation as rarely as its window is long
    spared = {"event": {"name": ["prefect.automation.action.failed"]}}

    def looked_at():
        """Events come in any order and take their time: the window is closed again until the server has acted on it."""
        with buckets:
            closed = buckets.execute(JUST_OVER, [f"%{run}%"]).rowcount
        if not closed:
            now, resource = datetime.now(UTC).isoformat(), {"prefect.resource.id": f"prefect.flow-run.{run}"}
            server.api.post(
                "/events",
                [
                    {
                        "event": "prefect.flow-run.heartbeat",
                        "resource": resource,
                        "id": str(uuid.uuid4()),
                        "occurred": now,
                    }
                ],
            )
        return run in json.dumps(server.api.post("/events/filter", {"filter": spared})["events"])

    with contextlib.closing(sqlite3.connect(server.home.prefect / "prefect.db", timeout=60)) as buckets:
        with buckets:  # those of the trigger as it was: a change gives it another id
            buckets.execute("delete from automation_bucket where bucketing_key like ?", [f"%{run}%"])
        wait_until(looked_at, 3 * PATIENCE_S, every=2)
    set_window(server, automation, automation["trigger"]["within"])
    assert server.state(run)["type"] == "PAUSED"
    server.api.post(f"/flow_runs/{run}/resume", {})
    assert server.ended(run)["type"] == "COMPLETED"


def test_a_run_lives_through_a_server_that_was_killed_and_away_for_long(server):
    path, until = server.folder / "held", server.folder / "enough"
    run = server.start("hold", path=str(path), until=str(until), slot="slot")
    wait_until(path.exists)
    buckets = sqlite3.connect(server.home.prefect / "prefect.db")
    of_run = 'select "end" from automation_bucket where bucketing_key like ?', [f"%{run}%"]
    wait_until(lambda: buckets.execute(*of_run).fetchone())  # runs before it have theirs
    os.kill(server.pid("server"), signal.SIGKILL)
    found = json.loads(server("status", "--json", status=1))
    assert not found["server"]["healthy"] and not found["healthy"] and "ended" in server("status", status=1)
    with buckets:
        buckets.execute(AN_HOUR_AGO)  # as if the server had been away for so long
    buckets.close()
    before = server.pid(f"worker-{POOL}")
    assert "started server" in server("up") and server.pid(f"worker-{POOL}") == before
    with contextlib.closing(sqlite3.connect(server.home.prefect / "prefect.db")) as buckets:
        (end,) = buckets.execute(*of_run).fetchone()
    assert datetime.fromisoformat(end).replace(tzinfo=UTC) > datetime.now(UTC), "it has time to be heard from again"
    assert server.state(run)["type"] == "RUNNING"
    until.touch()
    assert server.ended(run)["type"] == "COMPLETED", (server.home.run_logs / f"{run}.log").read_text()[-3000:]
    assert all(limit["active_slots"] == 0 for limit in server.api.post("/v2/concurrency_limits/filter", {}))


def test_down_ends_everything_and_says_so(server):
    path = server.folder / "ended"
    run = server.start("hold", path=str(path), until="/nonexistent")
    pid = int(wait_until(lambda: path.exists() and path.read_text()))
    said = server("down")
    assert "server" in said and f"flow run {run}" in said
    assert processes.birth(pid) is None and processes.marked(server.home) == {} and processes.known(server.home) == {}
    state = (
        sqlite3.connect(server.home.prefect / "prefect.db")
        .execute("select state_type from flow_run where id = ?", [run])
        .fetchone()
    )
    assert state == ("CRASHED",)
    assert "nothing is up" in server("down")
    assert "not started" in server("status", status=1)


def test_nobody_else_was_ever_connected_to(server):
    peers = {line.split()[0] for line in server.peers.read_text().splitlines()}
    assert "127.0.0.1" in peers, "the watch works: workers connect to the server"
    assert peers <= {"127.0.0.1", "localhost", "::1", "None", "0.0.0.0", socket.gethostname()}, peers
