"""The guard before Prefect's app: names that are answered, and headers on everything."""

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from alignflow.server.guard import Guard
from alignflow.server.hostnames import hosts, is_answered, is_own_origin, origins
from alignflow.server.settings import ServerSettings

SETTINGS = ServerSettings()


async def page(request):
    return PlainTextResponse("hello", headers={"Content-Security-Policy": "default-src *"})


async def talk(websocket):
    await websocket.accept()
    await websocket.send_text("hello")
    await websocket.close()


def client(settings=SETTINGS, url="http://127.0.0.1:4200"):
    app = Starlette(routes=[Route("/", page), WebSocketRoute("/ws", talk)])
    return TestClient(
        Guard(
            app, lambda host: is_answered(host, settings), lambda origin, host: is_own_origin(origin, host, settings)
        ),
        base_url=url,
    )


def policy(response):
    assert len(response.headers.get_list("content-security-policy")) == 1
    return dict(rule.split(" ", 1) for rule in response.headers["content-security-policy"].split("; "))


@pytest.mark.parametrize("path", ["/", "/nowhere"])
def test_every_response_keeps_the_browser_at_home(path):
    response = client().get(path)
    rules = policy(response)
    assert (
        rules["default-src"] == "'self'"
        and rules["script-src"] == "'self' 'unsafe-eval'"
        and rules["frame-ancestors"] == "'none'"
    )
    assert rules["connect-src"] == "'self' ws://127.0.0.1:4200" and rules["img-src"] == "'self' data: blob:"
    assert (
        response.headers["x-content-type-options"] == "nosniff" and response.headers["referrer-policy"] == "no-referrer"
    )
    assert response.headers["x-frame-options"] == "DENY"


def test_with_tls_websockets_are_encrypted_too():
    assert policy(client(url="https://127.0.0.1:4200").get("/"))["connect-src"] == "'self' wss://127.0.0.1:4200"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:4200", "127.0.0.1", "127.0.0.1:4201", "127.0.0.1:4200.evil.example", ""]
)
def test_a_foreign_name_is_refused_for_pages_and_websockets(host):
    assert client().get("/", headers={"Host": host}).status_code == 421
    with pytest.raises(WebSocketDisconnect), client().websocket_connect("/ws", headers={"Host": host}):
        pass


@pytest.mark.parametrize("host", ["127.0.0.1:4200", "localhost:4200", "LOCALHOST:4200", "[::1]:4200"])
def test_its_own_names_are_answered(host):
    assert client().get("/", headers={"Host": host}).status_code == 200
    with client().websocket_connect("/ws", headers={"Host": host}) as websocket:
        assert websocket.receive_text() == "hello"


def test_a_server_that_listens_everywhere_answers_to_addresses_but_not_to_any_name():
    everywhere = ServerSettings(host="0.0.0.0", insecure=True)
    assert is_answered("192.0.2.7:4200", everywhere) and is_answered("[2001:db8::7]:4200", everywhere)
    assert not is_answered("evil.example:4200", everywhere) and not is_answered("192.0.2.7:80", everywhere)
    assert not is_answered("192.0.2.7:4200", SETTINGS)


def test_names_of_a_proxy_and_of_the_certificate_are_added(tls):
    proxied = ServerSettings(allowed_hosts=("Runs.example",))
    assert is_answered("runs.example", proxied) and "https://runs.example" in origins(proxied)
    named = ServerSettings(host="0.0.0.0", port=443, tls_certificate=tls[0], tls_key=tls[1])
    assert {"gpu.example", "gpu.example:443"} <= hosts(named) and not any("*" in host for host in hosts(named))
    assert "https://gpu.example" in origins(named)


FOREIGN_ORIGINS = [
    "http://evil.example",
    "null",
    "",
    "http://127.0.0.1:4201",
    "https://127.0.0.1:4200",
    "http://127.0.0.1:4200.evil.example",
]


@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
def test_a_page_of_another_site_is_refused_for_requests_and_websockets(origin):
    assert client().get("/", headers={"Origin": origin}).status_code == 403
    with (
        pytest.raises(WebSocketDisconnect) as refused,
        client().websocket_connect("/ws", headers={"Origin": origin, "Host": "127.0.0.1:4200"}),
    ):
        pass
    assert refused.value.code == 1008


def test_a_second_origin_header_hides_no_foreign_one():
    headers = [("Origin", "http://127.0.0.1:4200"), ("Origin", "http://evil.example")]
    assert client().get("/", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "origin", ["http://127.0.0.1:4200", "http://localhost:4200", "HTTP://LOCALHOST:4200", "http://[::1]:4200"]
)
def test_its_own_pages_and_programs_without_an_origin_are_answered(origin):
    assert client().get("/").status_code == client().get("/", headers={"Origin": origin}).status_code == 200
    with client().websocket_connect("/ws", headers={"Origin": origin, "Host": "127.0.0.1:4200"}) as socket:
        assert socket.receive_text() == "hello"


def test_pages_under_an_address_of_a_server_that_listens_everywhere_are_its_own():
    everywhere = client(ServerSettings(host="0.0.0.0", insecure=True), url="http://192.0.2.7:4200")
    assert everywhere.get("/", headers={"Origin": "http://192.0.2.7:4200"}).status_code == 200
    assert everywhere.get("/", headers={"Origin": "http://192.0.2.8:4200"}).status_code == 403


def test_pages_behind_a_proxy_are_its_own_under_the_proxys_name():
    proxied = client(ServerSettings(allowed_hosts=("runs.example.org",)), url="http://runs.example.org")
    assert proxied.get("/", headers={"Origin": "https://runs.example.org"}).status_code == 200
