"""One request: its pauses, its addresses, and what of the endpoint's words is passed on."""

import email.utils

import pytest
from stand_in_server import standing_in

from alignflow.data.configs.server import ServerOptions
from alignflow.models.generation.server_client import (
    PassingError,
    RefusedError,
    ServerClient,
    StoppedError,
    Timing,
    TooLongError,
    retry_after_s,
)

BODY = {"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1, "temperature": 0}


def client(*urls, key="", notes=None, **options):
    parsed = ServerOptions.model_validate({"urls": list(urls), "model": "m", "max_retries": 2, **options})
    note = (notes if notes is not None else []).append
    return ServerClient(parsed, parsed.urls, key, note, Timing(first_pause_s=0.01))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after": "soon"}, None),
        ({"retry-after": email.utils.formatdate(1060, usegmt=True)}, 60.0),
        ({"retry-after": email.utils.formatdate(10, usegmt=True)}, 0.0),
    ],
)
def test_the_pause_that_is_asked_for(headers, seconds):
    assert retry_after_s(headers, 1000.0) == seconds


@pytest.mark.parametrize(
    "message", ["maximum context length is 10", "max_tokens=5 cannot be greater than max_model_len=4"]
)
def test_a_question_that_is_too_long_is_told_apart_from_one_that_is_not_understood(message):
    with standing_in(behave=lambda number, body: {"status": 400, "content": {"error": {"message": message}}}) as server:
        with pytest.raises(TooLongError):
            client(server.url).complete(BODY)
        server.behave = lambda number, body: {"status": 400, "content": {"error": {"message": "top_k is unknown"}}}
        with pytest.raises(RefusedError, match="top_k is unknown"):
            client(server.url).complete(BODY)


def test_a_reply_of_gigabytes_is_not_read(monkeypatch):
    monkeypatch.setattr("alignflow.models.generation.server_client.MOST_BYTES", 1000)
    with (
        standing_in(behave=lambda number, body: {"content": b"x" * 5000}) as server,
        pytest.raises(Exception, match="a reply of more than"),
    ):
        client(server.url, max_retries=0).complete(BODY)


def test_an_address_that_fails_is_left_out_and_said_once():
    notes = []
    with standing_in() as server:
        asked = client("http://127.0.0.1:9/v1", server.url, notes=notes, max_retries=5)
        for _ in range(6):
            asked.complete(BODY)
    assert server.asked == 6 and len([note for note in notes if "skipped" in note]) == 1


def test_a_stage_that_ends_waits_for_nobody():
    asked = client("http://127.0.0.1:9/v1")
    asked.stop.set()
    with pytest.raises(StoppedError):
        asked.complete(BODY)


def test_the_key_is_taken_out_of_texts():
    assert client("http://127.0.0.1:9/v1", key="sk-1").scrubbed("it was sk-1") == "it was ***"
    assert client("http://127.0.0.1:9/v1").scrubbed("it was sk-1") == "it was sk-1"


def test_a_failure_that_may_pass_says_how_long_it_asks_to_wait():
    assert PassingError("busy", 3.0).retry_after_s == 3.0
