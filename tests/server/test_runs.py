"""Flow runs through the server's API: which wait, which one a person means, what is sent."""

import pytest

from alignflow.data.errors import UserError
from alignflow.server import runs
from alignflow.server.errors import ServerError


def paused(id, name="tiny pipeline", asks=True):
    details = {"run_input_keyset": {"schema": "x"}} if asks else {}
    return {"id": id, "name": name, "state": {"type": "PAUSED", "timestamp": "2026-01-02", "state_details": details}}


class Server:
    """Stands for the API: answers with the records that it is given, and keeps what was sent."""

    url = "http://127.0.0.1:4200/api"

    def __init__(self, records=(), deployments=("pipeline",), resumed=None):
        self.records, self.deployments, self.sent = list(records), deployments, []
        self.resumed = resumed or {"status": "ACCEPT"}

    def get(self, path):
        if path.startswith("/deployments/name/"):
            return {"id": "d-1"} if path.rpartition("/")[2] in self.deployments else None
        return next((record for record in self.records if path.endswith(record["id"])), None)

    def post(self, path, body):
        self.sent.append((path, body))
        if path.endswith("/filter"):
            return self.records[body["offset"] : body["offset"] + min(body["limit"], 2)]
        if path.endswith("/resume"):
            return self.resumed
        return {"id": "f-9", "name": body.get("name", "shy-seal"), "state": {"type": "SCHEDULED"}}


def test_all_suspended_runs_are_read_with_the_address_of_their_page():
    found = runs.suspended(Server([paused(f"f-{n}") for n in range(5)]))
    assert [run.id for run in found] == [f"f-{n}" for n in range(5)], "the server gives two at a time"
    assert found[0].url == "http://127.0.0.1:4200/v2/runs/flow-run/f-0" and found[0].asks


@pytest.mark.parametrize("text", ["ab12", "nightly"])
def test_a_run_is_answered_by_its_name_or_the_start_of_its_id(text):
    server = Server([paused("ab12cd", "nightly"), paused("ff00")])
    assert runs.answer(server, text, True, "Ann", "fine").id == "ab12cd"
    given = {"approve": "yes", "who": "Ann", "comment": "fine"}
    assert server.sent[-1] == ("/flow_runs/ab12cd/resume", {"run_input": given})


def test_no_is_sent_as_no():
    server = Server([paused("ab12")])
    runs.answer(server, "ab12", False, "Ann", "")
    assert server.sent[-1][1]["run_input"]["approve"] == "no"


@pytest.mark.parametrize(
    ("records", "text", "message"),
    [
        ([paused("ab12", "one")], "two", "these runs wait: ab12 (one)"),
        ([], "two", "no run of the server waits for a person"),
        ([paused("ab1", "same"), paused("ab2", "same")], "same", "pass the start of an id: ab1 (same), ab2 (same)"),
        ([paused("ab1", asks=False)], "ab1", "resume it on its page: http://127.0.0.1:4200/v2/runs/flow-run/ab1"),
    ],
)
def test_a_name_that_means_no_one_run_is_refused(records, text, message):
    server = Server(records)
    with pytest.raises(UserError) as refused:
        runs.answer(server, text, True, "Ann", "")
    assert message in str(refused.value) and not any(path.endswith("/resume") for path, _ in server.sent)


@pytest.mark.parametrize(
    ("who", "comment", "field"), [("", "", "--who"), ("A" * 101, "", "--who"), ("A", "b" * 1001, "--comment")]
)
def test_an_answer_that_does_not_fit_the_form_is_refused_before_it_is_sent(who, comment, field):
    with pytest.raises(UserError, match=field):
        runs.answer(Server([paused("ab1")]), "ab1", True, who, comment)


def test_what_the_server_says_against_an_answer_is_told():
    refused = {"status": "REJECT", "details": {"reason": "it timed out"}}
    with pytest.raises(ServerError, match="it timed out"):
        runs.answer(Server([paused("ab1")], resumed=refused), "ab1", True, "Ann", "")


def test_a_run_is_created_of_the_deployment_with_parameters_name_and_tags():
    server = Server()
    run = runs.submit(server, "pipeline", {"recipe": "/r.yaml"}, "mine", ["named"])
    (path, body), name = server.sent[0], run.name
    assert path == "/deployments/d-1/create_flow_run" and name == "mine" and run.state == "SCHEDULED"
    assert body["parameters"] == {"recipe": "/r.yaml"} and body["tags"] == ["named"]


def test_a_server_without_the_deployment_says_how_to_register_it():
    with pytest.raises(ServerError, match="it registers"):
        runs.submit(Server(deployments=()), "pipeline", {}, "", [])


def test_a_run_that_was_deleted_is_told():
    with pytest.raises(ServerError, match="somebody deleted this run"):
        runs.look(Server(), "f-1")


def line(second):
    stamp = f"2026-01-02T03:04:{second:02}.5Z"
    return {"id": f"l-{second}", "message": f"line {second}", "timestamp": stamp}


def test_each_line_of_a_log_is_read_once_also_one_that_reaches_the_server_late():
    server = Server(map(line, (0, 1, 3)))
    log = runs.RunLog(server, "f-1")
    assert log.new_lines() == ["line 0", "line 1", "line 3"] and "timestamp" not in server.sent[0][1]["logs"]
    server.records = [*map(line, (0, 1, 2, 3, 4))]
    assert log.new_lines() == ["line 2", "line 4"] and log.new_lines() == []


def test_lines_are_asked_for_from_a_few_seconds_before_the_newest():
    server = Server([line(45), line(30)])
    log = runs.RunLog(server, "f-1")
    log.new_lines()
    log.new_lines()
    assert server.sent[-1][1]["logs"]["timestamp"] == {"after_": "2026-01-02T03:04:35.500000+00:00"}
