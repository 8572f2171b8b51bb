"""`alignflow submit` sends a recipe to the server of the store, and says clearly why it does not."""

import pytest
from cli_support import alignflow

from alignflow.cli import submit as submit_module
from alignflow.data.artifacts import file_digest
from alignflow.server.layout import Home
from alignflow.server.runs import FlowRun
from alignflow.server.status import PartStatus, Status


@pytest.fixture
def server(monkeypatch):
    """A server that takes every run; `sent` is what it was given, and `states` are those that the run passes."""

    class Server:
        sent, states, asks = [], ["RUNNING", "COMPLETED"], True
        lines = [["init cached"], ["sft ran"], ["its last words"]]  # what each look finds

    def submit(api, deployment, parameters, name, tags):
        Server.sent.append((deployment, parameters, name, tags))
        return FlowRun(id="abcdef0123456789", name=name, state="SCHEDULED", url="http://page")

    def look(api, run):
        state = Server.states.pop(0)
        return FlowRun(
            id=run, name="tiny pipeline", state=state, message=f"it is {state}", url="http://page", asks=Server.asks
        )

    class Log:
        def __init__(self, api, run):
            pass

        def new_lines(self):
            return Server.lines.pop(0)

    monkeypatch.setattr(submit_module, "server_api", lambda home: object())
    monkeypatch.setattr(submit_module.runs, "submit", submit)
    monkeypatch.setattr(submit_module.runs, "look", look)
    monkeypatch.setattr(submit_module.runs, "RunLog", Log)
    monkeypatch.setattr(submit_module, "LOOK_EVERY_S", 0)
    monkeypatch.setattr(submit_module, "dead_workers", lambda home: [])
    return Server


@pytest.fixture
def recipe(repository):
    return repository / "recipes" / "tiny.yaml"


def test_a_run_of_the_pipeline_is_created_and_its_name_id_and_page_are_printed(server, store, recipe):
    done = alignflow("submit", recipe, "--set", "align.options.beta=0.3")
    assert done.returncode == 0, done.stderr
    (deployment, parameters, name, tags) = server.sent[0]
    assert deployment == "pipeline" and name == "tiny pipeline align.beta=0.3"
    assert parameters == {"recipe": str(recipe), "more": ["align.options.beta=0.3"], "smoke": False}
    assert tags == [f"recipe:{file_digest(recipe)[:12]}"]
    assert [line.split()[-1] for line in done.stdout.splitlines()] == [
        "align.beta=0.3",
        "abcdef0123456789",
        "http://page",
    ]


def test_a_name_that_a_person_gives_is_marked_to_be_kept(server, store, recipe):
    alignflow("submit", recipe, "--name", "shy-seal")
    assert server.sent[0][2] == "shy-seal" and server.sent[0][3][-1] == "named"


def test_a_wrong_setting_is_told_here_and_nothing_is_sent(server, store, recipe):
    done = alignflow("submit", recipe, "--set", "align.options.betta=0.3")
    assert done.returncode == 2 and "betta" in done.stderr and server.sent == []


def test_where_no_server_is_up_one_message_says_how_to_start_one(store, recipe):
    done = alignflow("submit", recipe)
    assert done.returncode == 1 and done.stderr.count("\n") == 2
    assert "no server is up" in done.stderr and "`alignflow up` starts one" in done.stderr


def test_watch_shows_each_line_of_the_log_once_and_ends_with_the_run(server, store, recipe):
    done = alignflow("submit", recipe, "--watch")
    assert done.returncode == 0 and done.stdout.count("sft ran") == 1 and "completed" in done.stdout


def test_watch_shows_the_lines_that_reach_the_server_after_the_end(server, store, recipe):
    assert "its last words" in alignflow("submit", recipe, "--watch").stdout


def test_watch_says_that_somebody_paused_the_run_where_it_asks_nothing(server, store, recipe):
    server.states[:], server.asks = ["RUNNING", "PAUSED"], False
    done = alignflow("submit", recipe, "--watch")
    assert done.returncode == 3 and "by hand" in done.stderr and "resume it on its page: http://page" in done.stderr
    assert "answer" not in done.stderr


@pytest.mark.parametrize(
    ("state", "status", "said"),
    [("FAILED", 1, "it is FAILED"), ("CANCELLED", 1, "http://page"), ("PAUSED", 3, "alignflow answer abcdef01 yes")],
)
def test_watch_ends_with_the_status_that_the_run_ended_with(server, store, recipe, state, status, said):
    server.states[:] = ["RUNNING", state]
    done = alignflow("submit", recipe, "--watch")
    assert done.returncode == status and said in done.stderr


def state_of_processes(server, worker):
    parts = [
        PartStatus(name=name, healthy=healthy, problem="process 7 ended")
        for name, healthy in (("server", server), ("worker-alignflow", worker))
    ]
    return Status(
        healthy=server and worker,
        url="",
        database="",
        store="",
        logs="",
        login_file="",
        server=parts[0],
        workers=parts[1:],
    )


@pytest.mark.parametrize(("server", "worker", "told"), [(True, True, 0), (True, False, 1), (False, False, 0)])
def test_a_worker_that_is_dead_is_told_unless_the_server_is_on_another_machine(
    monkeypatch, store, server, worker, told
):
    monkeypatch.setattr(submit_module, "status", lambda home: state_of_processes(server, worker))
    lines = submit_module.dead_workers(Home(store.root))
    assert len(lines) == told and all(
        "worker-alignflow: process 7 ended" in line and "`alignflow up`" in line for line in lines
    )
