"""`alignflow status` says which runs wait for a person and how to answer; `alignflow answer` needs a server."""

import json
import shlex

import pytest
from cli_support import alignflow

from alignflow.cli import server as server_module
from alignflow.cli import waiting as waiting_module
from alignflow.cli.waiting import waiting, waiting_lines
from alignflow.server.errors import ServerError
from alignflow.server.layout import Home
from alignflow.server.runs import FlowRun
from alignflow.server.status import PartStatus
from alignflow.server.status import status as find_status
from alignflow.tasks.store.run_records import Asked, Question, RunRecord

ASKED = Asked(
    name="mine",
    file="/a b/mine.yaml",
    settings={"align.options.beta": 0.3, "data.prompts": [{"path": "x y"}]},
    smoke=True,
)
QUESTION = Question(
    gate="reward.eval_accuracy", key="reward-1", text="eval_accuracy is 0.5, and should be at least 0.6"
)


@pytest.fixture
def asked(store, monkeypatch):
    """What the store says of runs that wait: one that ended in a terminal, and one that the server suspended."""
    suspended = QUESTION.model_copy(update={"suspended": True})
    found = [
        RunRecord(id="run-2", asked=ASKED, began="2026-01-02T03:04:05", question=QUESTION),
        RunRecord(id="run-1", asked=ASKED, began="2026-01-01", question=suspended, flow_run="abcdef0123456789"),
    ]
    monkeypatch.setattr(waiting_module, "waiting_runs", lambda store: found)


def served(monkeypatch, *found):
    monkeypatch.setattr(waiting_module.runs, "suspended", lambda api: list(found))


def test_a_suspended_run_has_its_question_from_the_store_and_its_commands(store, asked, monkeypatch):
    served(
        monkeypatch, FlowRun(id="abcdef0123456789", name="mine pipeline", state="PAUSED", url="http://page", asks=True)
    )
    suspended, ended = waiting(store, api=object())
    assert suspended.run == "mine pipeline" and suspended.question == QUESTION.text and suspended.url == "http://page"
    assert suspended.answer == "alignflow answer abcdef01 yes" and suspended.refuse == "alignflow answer abcdef01 no"
    assert ended.id == ""


def test_a_run_that_ended_in_a_terminal_is_run_again_with_the_same_settings_and_its_gate_approved(
    store, asked, monkeypatch
):
    served(monkeypatch)
    (ended,) = waiting(store, api=object())
    words = shlex.split(ended.answer)
    assert words[:3] == ["alignflow", "run", "/a b/mine.yaml"] and "--smoke" in words
    assert words[-2:] == ["--approve", "reward.eval_accuracy"]
    assert words[4] == "align.options.beta=0.3" and json.loads(words[6].partition("=")[2]) == [{"path": "x y"}]


@pytest.mark.parametrize("part", ["only", "until"])
def test_the_command_runs_the_part_of_the_recipe_that_ended_at_the_gate(store, monkeypatch, part):
    run = RunRecord(id="run-1", asked=ASKED.model_copy(update={part: "reward"}), began="2026-01-01", question=QUESTION)
    monkeypatch.setattr(waiting_module, "waiting_runs", lambda store: [run])
    (ended,) = waiting(store, api=None)
    assert shlex.split(ended.answer)[-4:] == [f"--{part}", "reward", "--approve", "reward.eval_accuracy"]


def test_a_suspended_run_that_the_server_does_not_know_any_more_waits_for_nobody(store, asked, monkeypatch):
    served(monkeypatch)
    assert [each.id for each in waiting(store, api=object())] == [""]


def test_without_a_server_a_suspended_run_is_told_with_the_command_that_starts_one(store, asked):
    suspended, _ = waiting(store, api=None)
    assert suspended.answer == "alignflow up && alignflow answer abcdef01 yes" and suspended.question == QUESTION.text


@pytest.mark.parametrize(("asks", "said"), [(True, "on its page"), (False, "by hand")])
def test_a_run_without_a_question_in_the_store_is_listed_too(store, monkeypatch, asks, said):
    served(monkeypatch, FlowRun(id="abcdef0123456789", name="theirs", state="PAUSED", asks=asks))
    (found,) = waiting(store, api=object())
    assert said in found.question and bool(found.answer) is asks


def test_the_lines_are_the_question_and_below_it_the_commands(store, asked):
    heading, question, yes, no, *_ = waiting_lines(waiting(store, api=None))
    assert heading == "2 runs wait for a person:" and QUESTION.text in question
    assert yes.strip().startswith("yes: alignflow up") and no.strip().startswith("no: alignflow up")
    assert list(waiting_lines([])) == []


def test_status_lists_them_where_no_server_is_up(store, asked):
    done = alignflow("status", "--json")
    assert [each["gate"] for each in json.loads(done.stdout)["waiting"]] == ["reward.eval_accuracy"] * 2
    assert "2 runs wait for a person" in alignflow("status").stdout


def test_status_finds_the_server_that_runs_on_another_machine(store, asked, monkeypatch):
    monkeypatch.setattr(server_module, "find_api", lambda home, timeout_s: object())
    served(monkeypatch, FlowRun(id="abcdef0123456789", name="mine", state="PAUSED", asks=True))
    told = alignflow("status").stdout
    assert "yes: alignflow answer abcdef01 yes" in told and "alignflow up" not in told


def test_a_server_that_stops_to_answer_costs_its_health_and_not_the_table(store, asked, monkeypatch):
    def gone(api):
        raise ServerError("it is gone")

    healthy = find_status(Home(store.root))
    healthy.healthy, healthy.server, healthy.workers = True, PartStatus(name="server", healthy=True, pid=1), []
    monkeypatch.setattr(server_module, "find_status", lambda home: healthy)
    monkeypatch.setattr(server_module, "find_api", lambda home, timeout_s: object())
    monkeypatch.setattr(waiting_module.runs, "suspended", gone)
    done = alignflow("status", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 1 and not found["healthy"] and found["server"]["problem"] == "it is gone"
    assert len(found["waiting"]) == 2


def test_an_answer_needs_a_server(store):
    done = alignflow("answer", "mine", "yes")
    assert done.returncode == 1 and "no server is up" in done.stderr and "`alignflow up` starts one" in done.stderr


def test_an_answer_is_yes_or_no(store):
    assert alignflow("answer", "mine", "perhaps").returncode == 2
