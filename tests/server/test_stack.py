"""The checks before Prefect's app, together and in their order: a server of ours is `guarded`, whichever one it is."""

import base64

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from alignflow.server.settings import ServerSettings
from alignflow.server.stack import guarded, uvicorn_options

LOGIN = "alignflow:s3cret"


async def page(request):
    return JSONResponse({})


@pytest.fixture
def client():
    app = Starlette(routes=[Route("/{path:path}", page, methods=["GET", "POST"])])
    return TestClient(guarded(app, ServerSettings(), LOGIN), base_url="http://127.0.0.1:4200")


def basic(login):
    return {"Authorization": "Basic " + base64.b64encode(login.encode()).decode()}


def test_each_check_is_in_force(client):
    assert client.get("/", headers=basic(LOGIN)).status_code == 200
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 421
    assert client.get("/", headers=basic("alignflow:guess")).status_code == 401
    bait = {"job_variables": {"env": {"A": "b"}}}
    assert client.post("/api/flow_runs/", json=bait, headers=basic(LOGIN)).status_code == 403


def test_a_foreign_name_learns_nothing_about_logins(client):
    assert client.get("/", headers={"Host": "evil.example", **basic("alignflow:guess")}).status_code == 421


def test_what_a_check_refuses_keeps_the_browser_at_home_too(client):
    refused = client.get("/", headers=basic("alignflow:guess"))
    assert refused.headers["content-security-policy"] and refused.headers["x-frame-options"] == "DENY"


def test_headers_that_say_whose_request_it_is_are_believed_behind_a_proxy_alone():
    assert uvicorn_options(ServerSettings())["proxy_headers"] is False
    assert uvicorn_options(ServerSettings(allowed_hosts=("runs.example",)))["proxy_headers"] is True
