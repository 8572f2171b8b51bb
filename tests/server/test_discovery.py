"""Whether the store's server is up."""

import pytest

from alignflow.server import discovery
from alignflow.server.errors import ServerError
from alignflow.server.layout import Home


class Server:
    alive = True


class Api:
    def __init__(self, *_, **__):
        self.asked = 0

    def answers(self):
        self.asked += 1
        return self.asked > 2


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(discovery.processes, "known", lambda home: {"server": Server()})
    monkeypatch.setattr(discovery.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(discovery, "client_environment", lambda home, settings: {"PREFECT_API_URL": settings.url})
    monkeypatch.setattr(discovery, "Api", Api)
    return Home(tmp_path)


def test_without_a_process_or_with_a_dead_one_there_is_none(home, monkeypatch):
    monkeypatch.setattr(Server, "alive", False)
    assert discovery.running_server(home) is None
    monkeypatch.setattr(discovery.processes, "known", lambda home: {})
    assert discovery.running_server(home) is None


def test_a_busy_server_is_waited_for(home):
    assert discovery.running_server(home)["PREFECT_API_URL"].startswith("http")


def test_one_that_never_answers_is_an_error(home, monkeypatch):
    monkeypatch.setattr(Api, "answers", lambda self: False)
    monkeypatch.setattr(discovery, "PATIENCE_S", 0)
    with pytest.raises(ServerError, match="does not answer"):
        discovery.running_server(home)


def test_a_command_speaks_to_the_server_of_this_machine_or_to_one_that_answers_elsewhere(home, monkeypatch):
    assert isinstance(discovery.server_api(home), Api)
    monkeypatch.setattr(discovery.processes, "known", lambda home: {})  # as on another machine that shares the store
    monkeypatch.setattr(Api, "answers", lambda self: True)
    home.make()
    home.login()
    assert isinstance(discovery.server_api(home), Api)


def test_where_no_server_is_up_the_error_says_how_to_start_one(home, monkeypatch):
    monkeypatch.setattr(discovery.processes, "known", lambda home: {})
    with pytest.raises(ServerError, match="no server is up") as refused:
        discovery.server_api(home)
    assert discovery.find_api(home) is None
    assert "`alignflow up`" in str(refused.value)
