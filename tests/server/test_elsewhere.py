"""A server on another machine: what says that it is there, and what status finds out from here. The servers are real HTTP servers."""

import base64
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from alignflow.server import elsewhere
from alignflow.server.elsewhere import base_of, is_here, look, named_server, server_elsewhere
from alignflow.server.settings import ServerSettings
from alignflow.server.status import status


class Answers(BaseHTTPRequestHandler):
    """Prefect's API as far as status asks it; the login is ada:pass."""

    workers = [{"name": "host2-77", "status": "ONLINE"}, {"name": "gone", "status": "OFFLINE"}]

    def do_GET(self):
        if self.path == "/api/health":
            return self.answer(True)
        return self.answer({"token": "t"} if self.is_known() else None)

    def do_POST(self):
        pool = {"name": "alignflow", "is_paused": False, "concurrency_limit": None}
        found = {"/api/work_pools/filter": [pool], "/api/work_pools/alignflow/workers/filter": self.workers}
        return self.answer(found.get(self.path, 3) if self.is_known() else None)

    def is_known(self):
        self.server.logins.append(self.headers.get("Authorization", ""))
        return self.headers.get("Authorization") == "Basic " + base64.b64encode(b"ada:pass").decode()

    def answer(self, content):
        self.send_response(401 if content is None else 200)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    found = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    found.logins = []
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.shutdown()


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    monkeypatch.setattr(os, "environ", kept)
    kept["PREFECT_HOME"] = str(tmp_path)
    return kept


def address(server):
    return f"http://127.0.0.1:{server.server_port}"


def test_without_a_name_and_without_a_login_there_is_none(home):
    assert server_elsewhere(home, ServerSettings(), False) is None


def test_a_variable_or_the_active_profile_names_one(home, environment, tmp_path):
    (tmp_path / "profiles.toml").write_text(
        'active = "mine"\n[profiles.mine]\nPREFECT_API_URL = "http://profile/api"\n[profiles.other]\nPREFECT_API_URL = "x"\n'
    )
    assert named_server() == ("http://profile/api", "the active Prefect profile")
    assert server_elsewhere(home, ServerSettings(), True).url == "http://profile", "though ours runs here"
    environment["PREFECT_API_URL"] = "http://variable:4200/api/"
    found = server_elsewhere(home, ServerSettings(), False)
    assert (found.url, found.why, found.of_store) == ("http://variable:4200", "PREFECT_API_URL names it", False)


def test_the_address_of_the_stores_own_server_names_no_other(home, environment):
    environment["PREFECT_API_URL"] = f"{ServerSettings().url}/api"
    assert server_elsewhere(home, ServerSettings(), True) is None


def test_a_profile_that_cannot_be_read_names_none(tmp_path):
    (tmp_path / "profiles.toml").write_text("active = [")
    assert named_server() == ("", "")


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("0.0.0.0", True),
        ("192.0.2.7", False),
        ("no-such-host.invalid", False),
    ],
)
def test_an_address_is_of_this_machine_or_not(host, here, monkeypatch):
    lookup = elsewhere.socket.getaddrinfo

    def without_network(name, port):
        if name.endswith(".invalid"):
            raise OSError("no such host")
        return lookup(name, port)

    monkeypatch.setattr(elsewhere.socket, "getaddrinfo", without_network)
    assert is_here(ServerSettings(host=host, insecure=True)) is here


def test_a_server_of_the_store_with_an_address_of_another_machine_is_elsewhere(home):
    home.login()
    found = server_elsewhere(home, ServerSettings(host="192.0.2.7", insecure=True), False)
    assert found.url == "http://192.0.2.7:4200" and found.of_store


def test_it_says_what_it_has_to_the_login_that_the_environment_gives(home, server, environment):
    environment |= {"PREFECT_API_URL": f"{address(server)}/api", "PREFECT_API_AUTH_STRING": "ada:pass"}
    seen = look(home, ServerSettings(), server_elsewhere(home, ServerSettings(), False))
    assert (seen.problem, seen.workers, seen.deployments) == ("", {"alignflow": ["host2-77"]}, 3)
    assert seen.runs == {"running": 3, "pending": 3, "paused": 3}


def test_the_login_of_the_store_is_not_sent_to_another_server(home, server, environment):
    home.login_file.write_text("ada:pass")
    environment["PREFECT_API_URL"] = f"{address(server)}/api"
    seen = look(home, ServerSettings(), server_elsewhere(home, ServerSettings(), False))
    assert seen.problem.startswith("answers, but does not let status look: the server refuses")
    assert set(server.logins) == {"Basic " + base64.b64encode(b":").decode()}


def test_an_address_without_api_is_not_asked(home, environment):
    environment["PREFECT_API_URL"] = "https://cloud.example/api/accounts/1"
    seen = look(home, ServerSettings(), server_elsewhere(home, ServerSettings(), False))
    assert "does not end in /api" in seen.problem


def test_the_path_of_the_api_is_no_part_of_the_address():
    assert base_of("http://a/api/") == base_of("http://a/api") == base_of("http://a") == "http://a"


def test_status_says_where_the_server_of_the_store_is_and_what_it_has(home, server):
    """As on another machine that shares the store: nothing was started here, and the store's server answers."""
    home.login_file.write_text("ada:pass")
    home.remember(ServerSettings(port=server.server_port))
    found = status(home)
    assert found.healthy and found.server.healthy and found.server.pid is None
    assert found.elsewhere.startswith("it answers there") and found.url == address(server)
    assert [worker.name for worker in found.workers] == ["host2-77"] and found.deployments == 3
    assert found.login_file == str(home.login_file) and found.database == ""


def test_a_pool_without_a_worker_is_not_healthy(home, server, monkeypatch):
    monkeypatch.setattr(Answers, "workers", [])
    home.login_file.write_text("ada:pass")
    home.remember(ServerSettings(port=server.server_port))
    found = status(home)
    assert not found.healthy and [worker.problem for worker in found.workers] == ["none is online"]


def test_status_says_that_a_named_server_does_not_answer(home, environment):
    environment["PREFECT_API_URL"] = "http://127.0.0.1:1/api"
    found = status(home)
    assert not found.healthy and found.server.problem == "does not answer this machine"
    assert found.url == "http://127.0.0.1:1" and found.login_file == ""


def test_another_programs_server_at_the_address_is_not_taken_for_that_of_the_store(home, server):
    home.login_file.write_text("somebody:else")
    home.remember(ServerSettings(port=server.server_port))
    found = status(home)
    assert found.elsewhere == "" and found.server.problem == "not started"
