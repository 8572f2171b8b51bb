"""No request sets the command, the environment or the directory of a run by job variables, in whatever way it is sent."""

import contextlib
import json

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from alignflow.server.job_variables import LARGEST_BODY, JobVariables, reason
from alignflow.server.pools import COMMAND, POOL, job_template

BAIT = (
    {"command": "touch bait"},
    {"env": {"PYTHONPATH": "/tmp/x"}},
    {"working_dir": "/tmp/x"},
    {"env.LD_PRELOAD": "/tmp/x.so"},
    {"image": "x"},
)
ROUTES = (
    "deployments/",
    "deployments/1",
    "deployments/1/create_flow_run",
    "deployments/1/create_flow_run/bulk",
    "flow_runs/",
    "flow_runs/1",
)
PREFECTS = {
    "job_configuration": {"command": "{{ command }}", "env": "{{ env }}", "working_dir": "{{ working_dir }}"},
    "variables": {
        "type": "object",
        "properties": {"command": {"type": "string"}, "env": {"type": "object"}, "working_dir": {"type": "string"}},
    },
}


async def echo(request):
    return JSONResponse({"heard": (await request.body()).decode()})


async def hello(websocket):
    await websocket.accept()
    with contextlib.suppress(WebSocketDisconnect):
        await websocket.send_text(await websocket.receive_text())
    await websocket.close()


@pytest.fixture
def client():
    routes = [
        Route("/{path:path}", echo, methods=["POST", "PATCH", "PUT", "DELETE", "GET"]),
        WebSocketRoute("/{path:path}", hello),
    ]
    return TestClient(JobVariables(Starlette(routes=routes)), base_url="http://127.0.0.1:4200")


@pytest.fixture
def ours(tmp_path):
    return job_template({"prefect": {"process": {"default_base_job_configuration": PREFECTS}}}, tmp_path)


@pytest.mark.parametrize("bait", BAIT, ids=lambda bait: next(iter(bait)))
@pytest.mark.parametrize("route", ROUTES)
def test_a_run_or_deployment_cannot_set_its_process(client, route, bait):
    for method in ("POST", "PATCH"):
        answer = client.request(
            method, f"/api/{route}", json={"parameters": {}, "job_variables": {"name": "mine", **bait}}
        )
        assert (
            answer.status_code == 403
            and next(iter(bait)) in answer.json()["detail"]
            and "parameters" in answer.json()["detail"]
        )


@pytest.mark.parametrize(
    "body",
    [
        {"actions": [{"type": "run-deployment", "job_variables": {"env": {"A": "b"}}}]},
        {"actions_on_trigger": [{"type": "run-deployment", "job_variables": {"command": "x"}}]},
        [{"job_variables": {"env": {"A": "b"}}}],
        {"infra_overrides": {"env": {"A": "b"}}},
        {"job_variables": {"env": [1]}},
    ],
)
def test_no_place_in_a_request_is_overlooked(client, body):
    assert client.post("/api/automations/", json=body).status_code == 403


def test_spelling_and_content_type_hide_nothing(client):
    hidden = r'{"\u006aob_variables": {"e\u006ev": {"A": "b"}}}'
    for headers in ({}, {"Content-Type": "text/plain"}):
        assert client.post("/api/flow_runs/", content=hidden, headers=headers).status_code == 403
    assert client.post("/api/flow_runs/", content=hidden.encode("utf-16")).status_code == 403


@pytest.mark.parametrize(
    "body",
    [
        {"job_variables": {}},
        {"job_variables": None},
        {"job_variables": {"name": "mine", "labels": {"a": "b"}, "stream_output": False}},
        {"job_variables": {"env": {}, "working_dir": None, "command": ""}},
        {"parameters": {"job_variables": {"env": {"A": "b"}}}},
    ],
)
def test_what_sets_nothing_is_handed_on_as_it_came(client, body):
    answer = client.post("/api/deployments/1/create_flow_run", json=body)
    assert answer.status_code == 200 and json.loads(answer.json()["heard"]) == body


def test_what_is_no_json_is_left_to_prefect(client):
    deep = "[" * 100_000
    for text in ("", "job_variables", deep):
        assert client.post("/api/flow_runs/", content=text).json() == {"heard": text}
    assert client.post("/api/flow_runs/", content="x" * (LARGEST_BODY + 1)).status_code == 413
    assert client.post("/api/artifacts/", content="x" * (LARGEST_BODY + 1)).status_code == 200


def test_the_template_of_our_pool_stays_as_it_is(client, ours):
    assert client.patch(f"/api/work_pools/{POOL}", json={"base_job_template": ours}).status_code == 200
    assert client.patch(f"/api/work_pools/{POOL}", json={"concurrency_limit": 3, "is_paused": True}).status_code == 200
    assert (
        client.post("/api/work_pools/", json={"name": POOL, "type": "process", "base_job_template": ours}).status_code
        == 200
    )
    configuration, variables = ours["job_configuration"], ours["variables"]
    changed = [
        PREFECTS,
        {},
        {**ours, "job_configuration": {**configuration, "env": {}}},
        {**ours, "job_configuration": {**configuration, "env": "{{ name }}"}},
        {**ours, "job_configuration": {**configuration, "command": "touch bait"}},
        {**ours, "job_configuration": {**configuration, "command": "{{ name }}"}},
        {**ours, "job_configuration": {**configuration, "working_dir": "{{ name }}"}},
        {
            **ours,
            "variables": {
                **variables,
                "properties": {**variables["properties"], "env": {"type": "object", "default": {"A": "b"}}},
            },
        },
    ]
    for template in changed:
        assert client.patch(f"/api/work_pools/{POOL}", json={"base_job_template": template}).status_code == 403, (
            template
        )
        if template:
            assert (
                client.post(
                    "/api/work_pools/", json={"name": POOL, "type": "process", "base_job_template": template}
                ).status_code
                == 403
            )


def test_our_pool_cannot_be_deleted_and_made_again_by_a_worker(client):
    assert client.delete(f"/api/work_pools/{POOL}").status_code == 403
    assert client.delete("/api/work_pools/mine").status_code == 200


def test_other_pools_are_made_as_usual_but_bring_neither_command_nor_environment(client):
    assert (
        client.post(
            "/api/work_pools/", json={"name": "mine", "type": "process", "base_job_template": PREFECTS}
        ).status_code
        == 200
    )
    evil = {**PREFECTS, "job_configuration": {**PREFECTS["job_configuration"], "command": "touch bait"}}
    assert (
        client.post("/api/work_pools/", json={"name": "mine", "type": "process", "base_job_template": evil}).status_code
        == 403
    )
    assert client.patch("/api/work_pools/mine", json={"base_job_template": evil}).status_code == 403
    with (
        client.websocket_connect("/api/work_pools/mine/workers/connect") as websocket,
        pytest.raises(WebSocketDisconnect),
    ):
        websocket.send_text(json.dumps({"type": "worker.hello.v1", "payload": {"default_base_job_template": evil}}))
        websocket.receive_text()
    with client.websocket_connect("/api/work_pools/mine/workers/connect") as websocket:
        websocket.send_text(json.dumps({"payload": {"default_base_job_template": PREFECTS}}))
        assert websocket.receive_text()


def test_our_own_requests_pass(ours):
    assert ours["job_configuration"]["command"] == COMMAND
    assert not reason(json.dumps({"name": POOL, "type": "process", "base_job_template": ours}))
