"""What is said of the server's processes."""

import json
from types import SimpleNamespace

import pytest
from server_support import free_port

from alignflow.server.settings import ServerSettings
from alignflow.server.status import _part, is_online, status


def test_a_process_runs_ended_or_was_never_started():
    alive = SimpleNamespace(name="server", alive=True, pid=7, since="2026-01-02T03:04:05+00:00")
    assert _part("server", {"server": alive}).healthy and _part("server", {"server": alive}).pid == 7
    ended = _part("server", {"server": SimpleNamespace(alive=False, pid=7)})
    assert not ended.healthy and ended.problem == "process 7 ended" and _part("server", {}).problem == "not started"


@pytest.mark.parametrize(
    ("worker", "online"),
    [
        ({}, True),
        ({"name": "other"}, False),
        ({"status": "OFFLINE"}, False),
        ({"last_heartbeat_time": "2026-01-02T03:04:04+00:00"}, False),
    ],
)
def test_a_worker_is_online_where_the_server_heard_from_this_very_process(worker, online):
    heard = {"name": "w", "status": "ONLINE", "last_heartbeat_time": "2026-01-02T03:04:06+00:00", **worker}
    api = SimpleNamespace(post=lambda path, body: [heard])
    process = SimpleNamespace(name="w", since="2026-01-02T03:04:05+00:00")
    assert is_online(api, "pool", process) is online
    assert not is_online(SimpleNamespace(post=lambda path, body: None), "pool", process)


def test_a_server_that_another_machine_started_is_not_said_to_have_ended(home):
    record = {"name": "server", "pid": 7, "born": "another-boot:1", "since": "2026-01-02T03:04:05+00:00"}
    (home.processes / "server.json").write_text(json.dumps(record))
    home.remember(ServerSettings(port=free_port()))
    assert "process 7 was started on another machine" in status(home).server.problem
