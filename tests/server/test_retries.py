"""A request that meets a busy database is made again, whole, before the page hears of it."""

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from alignflow.server.retries import LARGEST_BODY, WAITS_S, Retries

NO_WAIT = (0.0,) * len(WAITS_S)


class Busy(Exception):
    """What a database says that somebody else writes to."""


@pytest.fixture
def heard():
    """Bodies of the requests that the app was asked to serve."""
    return []


@pytest.fixture
def client(heard, request):
    """A client of an app whose first answers are 503; how many is the test's parameter."""

    async def create(asked: Request):
        heard.append(await asked.body())
        if len(heard) <= request.param:
            raise Busy
        return JSONResponse({"tries": len(heard)}, 201)

    async def unavailable(asked, error):
        return JSONResponse({"exception_message": "Service Unavailable"}, 503)

    app = Starlette(routes=[Route("/", create, methods=["POST"])], exception_handlers={Exception: unavailable})
    return TestClient(Retries(app, NO_WAIT), raise_server_exceptions=False)


@pytest.mark.parametrize("client", [0, 1, len(WAITS_S)], indirect=True)
def test_the_page_hears_of_the_try_that_worked_alone(client, heard, request):
    busy = request.node.callspec.params["client"]
    answer = client.post("/", content=b"x" * 1000)
    assert answer.status_code == 201 and answer.json() == {"tries": busy + 1}
    assert heard == [b"x" * 1000] * (busy + 1)


@pytest.mark.parametrize("client", [1000], indirect=True)
def test_what_stays_busy_is_told(client, heard):
    assert client.post("/", content=b"x").status_code == 503
    assert len(heard) == len(WAITS_S) + 1


@pytest.mark.parametrize("client", [1], indirect=True)
def test_a_large_request_is_made_once(client, heard):
    assert client.post("/", content=b"x" * (LARGEST_BODY + 1)).status_code == 503
    assert len(heard) == 1


def test_waits_are_shorter_than_a_person_gives_up():
    assert sum(WAITS_S) < 5
