"""Calls of the server: what is tried again, and which answer is an error."""

import httpx
import pytest

from alignflow.server import api
from alignflow.server.api import TRIES, Api
from alignflow.server.errors import ServerError
from alignflow.server.layout import Home
from alignflow.server.settings import ServerSettings


@pytest.fixture
def speak(tmp_path, monkeypatch):
    """An Api whose server gives some answers, one after the other; returns it and what it was asked."""
    monkeypatch.setattr(api.time, "sleep", lambda seconds: None)

    def make(*answers):
        asked, waiting = [], list(answers)

        def answer(request):
            asked.append((request.method, request.url.path))
            if "csrf-token" in request.url.path:
                return httpx.Response(200, json={"token": "t"})
            found = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            if isinstance(found, Exception):
                raise found
            return found

        made = Api(Home(tmp_path), ServerSettings(), login="ada:pass")
        made._client = httpx.Client(transport=httpx.MockTransport(answer), base_url="http://here")
        return made, asked

    return make


def test_a_missing_thing_is_none_and_an_empty_answer_too(speak):
    assert speak(httpx.Response(404))[0].get("/flows/x") is None and speak(httpx.Response(204))[0].get("/x") is None


def test_a_busy_server_and_a_lost_connection_are_tried_again(speak):
    found, asked = speak(httpx.Response(503), httpx.ConnectError("lost"), httpx.Response(200, json=[1]))
    assert found.post("/flows/filter", {}) == [1]
    assert len([path for method, path in asked if method == "POST"]) == 3 and asked[0][0] == "GET", (
        "the token comes first"
    )


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (httpx.ConnectError("lost"), "does not answer"),
        (httpx.Response(401), "refuses this store's login"),
        (httpx.Response(422, text="what"), "answers 422: what"),
    ],
)
def test_what_stays_wrong_is_an_error(speak, answer, said):
    found, asked = speak(answer)
    with pytest.raises(ServerError, match=said):
        found.get("/x")
    assert len(asked) <= TRIES


def test_whether_it_is_healthy_is_asked_once(speak):
    assert speak(httpx.Response(200))[0].answers() and not speak(httpx.Response(503))[0].answers()
    assert not speak(httpx.ConnectError("lost"))[0].answers()
