"""The page's server: what it answers to whom, and what no other page, name or size of request gets through."""

import http.client
import json
import threading
from contextlib import contextmanager

import pytest

from alignflow.data.annotation.answers import Session, read_answers
from alignflow.data.annotation.pairs import take_pairs
from alignflow.data.records import user
from alignflow.server.annotate.page import MOST_BYTES, AnnotationServer

EVIL = "<script>document.title='taken'</script>"
PAIRS = take_pairs([{"prompt": user(f"q{i} {EVIL}"), "completions": [EVIL, "b"]} for i in range(3)], None).pairs


@contextmanager
def served(path):
    session = Session(path, PAIRS, "anna")
    server = AnnotationServer(session)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        session.close()


def request(server, method="GET", place="", body=None, token=None, **headers):
    port = server.server_address[1]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    own = {"Host": f"127.0.0.1:{port}"}
    if method == "POST":
        own |= {"Origin": f"http://127.0.0.1:{port}", "Content-Type": "application/json"}
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    sent = {name: value for name, value in {**own, **given}.items() if value is not None}
    content = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request(method, f"/{server.token if token is None else token}/{place}", content, sent)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text, answer.headers


def shown(server):
    return json.loads(request(server, place="state")[1])


def test_an_answer_is_kept_on_its_side_and_the_next_pair_is_shown(tmp_path):
    with served(tmp_path) as server:
        first = shown(server)
        assert (first["done"], first["total"]) == (0, 3) and first["pair"]["answers"]
        body = {"item": first["pair"]["item"], "choice": "second", "note": " why "}
        status, text, _ = request(server, "POST", "answer", body)
        assert status == 200 and json.loads(text)["done"] == 1
        (kept,) = read_answers(tmp_path, "anna")
        assert kept.note == "why" and kept.seconds >= 0 and kept.preference == ("b" if kept.left == "a" else "a")
        assert json.loads(request(server, "POST", "undo", {})[1])["pair"] == first["pair"]


def test_the_page_needs_nothing_else_and_holds_no_text_of_the_data(tmp_path):
    with served(tmp_path) as server:
        status, text, headers = request(server)
        assert status == 200 and EVIL not in text and "http://" not in text and "https://" not in text
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert headers["Cache-Control"] == "no-store" and headers["Referrer-Policy"] == "no-referrer"
        assert "Access-Control-Allow-Origin" not in headers
        other = request(server)[2]["Content-Security-Policy"]
        assert other != policy, "each answer has a nonce of its own"


def test_the_state_names_no_model_and_no_side(tmp_path):
    with served(tmp_path) as server:
        assert set(shown(server)["pair"]) == {"item", "prompt", "answers"}


REFUSED = [
    ({"token": "guess"}, 404),
    ({"token": ""}, 404),
    ({"Host": "attacker.example"}, 421),
    ({"Host": None}, 421),
    ({"method": "POST", "place": "answer", "body": {}, "Origin": "http://attacker.example"}, 403),
    ({"method": "POST", "place": "answer", "body": {}, "Origin": "null"}, 403),
    ({"method": "POST", "place": "answer", "body": {}, "Origin": None}, 403),
    ({"method": "POST", "place": "answer", "body": {}, "Sec_Fetch_Site": "cross-site"}, 403),
    ({"method": "POST", "place": "answer", "body": {}, "Content_Type": "text/plain"}, 415),
    ({"method": "POST", "place": "answer", "body": b"x" * (MOST_BYTES + 1)}, 413),
    ({"method": "POST", "place": "answer", "body": b"[1]"}, 400),
    ({"method": "POST", "place": "answer", "body": b"[" * 9000}, 400),
    ({"method": "POST", "place": "answer", "body": {"item": "x", "choice": "first"}}, 409),
    ({"method": "POST", "place": "elsewhere", "body": {}}, 404),
    ({"place": "../etc/passwd"}, 404),
    ({"method": "PUT"}, 501),
]


@pytest.mark.parametrize(("asked", "status"), REFUSED)
def test_what_the_page_would_not_ask_is_refused_and_changes_nothing(asked, status, tmp_path):
    with served(tmp_path) as server:
        before = shown(server)
        headers = dict(asked)
        if "Host" in headers and headers["Host"] is None:
            headers["Host"] = ""
        found, _, answered = request(server, **headers)
        assert found == status and "Access-Control-Allow-Origin" not in answered
        assert shown(server) == before and read_answers(tmp_path, "anna") == []


def test_it_listens_on_this_machine_alone_and_each_session_has_a_token_of_its_own(tmp_path):
    with served(tmp_path / "one") as one, served(tmp_path / "two") as two:
        assert one.server_address[0] == two.server_address[0] == "127.0.0.1"
        assert one.token != two.token and len(one.token) >= 32


def test_an_answer_to_a_pair_that_is_not_shown_is_refused(tmp_path):
    with served(tmp_path) as server:
        item = shown(server)["pair"]["item"]
        other = next(pair.id for pair in PAIRS if pair.id != item)
        assert request(server, "POST", "answer", {"item": other, "choice": "first"})[0] == 409
        assert request(server, "POST", "answer", {"item": item, "choice": "first", "note": "x" * 5000})[0] == 409
        assert request(server, "POST", "answer", {"item": item, "choice": "undo"})[0] == 409
