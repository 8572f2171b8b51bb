"""Which Host headers are answered, and which origins may call."""

import pytest

from alignflow.server.hostnames import hosts, is_answered, is_own_origin, origins
from alignflow.server.settings import ServerSettings

LOCAL = ServerSettings(port=4200)


@pytest.mark.parametrize(
    ("host", "answered"),
    [
        ("127.0.0.1:4200", True),
        ("LocalHost:4200", True),
        ("[::1]:4200", True),
        ("127.0.0.1:4201", False),
        ("127.0.0.1", False),
        ("evil.example:4200", False),
        ("", False),
    ],
)
def test_a_server_of_this_machine_answers_to_its_own_names_and_port(host, answered):
    assert is_answered(host, LOCAL) is answered


def test_the_usual_port_need_not_be_named():
    assert is_answered("localhost", ServerSettings(port=80)) and "localhost:80" in hosts(ServerSettings(port=80))


def test_pages_of_the_server_itself_may_call_and_no_others():
    assert is_own_origin("http://127.0.0.1:4200", "127.0.0.1:4200", LOCAL)
    assert "http://localhost:4200" in origins(LOCAL)
    assert not is_own_origin("https://127.0.0.1:4200", "127.0.0.1:4200", LOCAL), "another scheme"
    assert not is_own_origin("http://evil.example", "127.0.0.1:4200", LOCAL)
