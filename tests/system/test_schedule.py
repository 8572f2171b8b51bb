"""A schedule of every half a minute: the first run trains, the next finds everything, one with ten new prompts computes those alone."""

import gzip
import json
from datetime import datetime
from itertools import pairwise

import pytest
import yaml
from server_support import Server, give_history
from system_support import REPOSITORY, TINY
from waiting import wait_until

STEPS = ("init", "prepare", "sample", "label", "reference", "align", "report")
PATIENCE_S = 400


@pytest.fixture(scope="module")
def server(tmp_path_factory, history):
    """A server that is up on an empty store, a folder of prompts, and a short recipe that takes them."""
    made = Server(tmp_path_factory.mktemp("schedule"))
    give_history(made.home.store, history)
    tiny = yaml.safe_load((REPOSITORY / TINY).read_text())
    examples = REPOSITORY / "examples" / "quickstart"
    with gzip.open(examples / "prompts.jsonl.gz", "rt") as file:
        made.prompts = [next(file) for _ in range(34)]
    (made.folder / "prompts").mkdir()
    (made.folder / "prompts" / "first.jsonl").write_text("".join(made.prompts[:24]))
    recipe = {
        "name": "often",
        "sft": None,
        "reward": None,
        "evaluate": None,
        "engine": tiny["engine"],
        "model": {**tiny["model"], "corpus": [{"path": str(examples / "prompts.jsonl.gz")}]},
        "data": {"prompts": [{"path": "prompts"}], "max_length": 160, "max_prompt_length": 64, "heldout_fraction": 0.2},
        "sample": {"n": 3, "max_new_tokens": 8},
        "label": tiny["label"],
        "align": {**tiny["align"], "max_steps": 3},
    }
    (made.folder / "often.yaml").write_text(yaml.safe_dump(recipe))
    made("up", "--port", made.port)
    yield made
    made("down")


def runs(server):
    """The flow runs that began, oldest first: each with its state, and its steps with theirs."""
    asked = {"flow_runs": {"start_time": {"is_null_": False}}, "sort": "EXPECTED_START_TIME_ASC"}
    found = server.api.post("/flow_runs/filter", asked)
    for run in found:
        tasks = server.api.post("/task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
        run["steps"] = {task["name"].split()[0]: task["state_name"] for task in tasks}
        run["times"] = [(task["start_time"], task["end_time"]) for task in tasks]
    return found


def finished_run(server, number):
    """The run of this number, once it ended."""

    def ended():
        known = runs(server)
        return (
            known[number]
            if len(known) > number and known[number]["state_type"] in ("COMPLETED", "FAILED", "CRASHED")
            else None
        )

    found = wait_until(ended, PATIENCE_S, every=1)
    assert found["state_type"] == "COMPLETED", found["state"]
    return found


def computed(server, stage):
    """Rows that each artifact of a stage computed, and had, in the order in which they were made."""
    manifests = [
        json.loads(path.read_text()) for path in (server.home.store / "artifacts").glob(f"{stage}-*/manifest.json")
    ]
    return [(each["cost"]["rows"], each["metrics"]) for each in sorted(manifests, key=lambda each: each["created"])]


def test_first_it_trains_then_it_finds_everything_then_it_computes_what_is_new(server):
    server("schedule", "add", "pipeline", "--recipe", server.folder / "often.yaml", "--every", "30", "--name", "often")
    assert finished_run(server, 0)["steps"] == dict.fromkeys(STEPS, "Completed")
    assert finished_run(server, 1)["steps"] == dict.fromkeys(STEPS, "Cached")
    folder, begun = server.folder / "prompts", len(runs(server))
    (folder / ".second.jsonl").write_text("".join(server.prompts[24:]))
    (folder / ".second.jsonl").rename(folder / "second.jsonl")
    known = finished_run(server, begun)
    if set(known["steps"].values()) == {
        "Cached"
    }:  # the run that went on read the new prompts, or this one read the folder before
        known = finished_run(server, begun + 1)
    assert [name for name, state in known["steps"].items() if state == "Cached"] in (["init"], list(STEPS))
    assert len(list((server.home.store / "artifacts").glob("align-*"))) == 2
    (first_rows, first), (new_rows, grown) = computed(server, "sample")
    new = grown["prompts"] - first["prompts"]  # those of the ten that are on the training side
    assert 0 < new <= 10 and (first_rows, new_rows) == (3 * first["prompts"], 3 * new)
    assert [rows for rows, _ in computed(server, "label")] == [first["prompts"], new]


def test_a_run_that_is_due_while_another_goes_on_waits_for_it(server):
    """Two more at once: whichever begins second does nothing until the first has ended."""
    server("schedule", "pause", "often")
    more = ["align.max_steps=4"]
    both = [server.start("pipeline", recipe=str(server.folder / "often.yaml"), more=more) for _ in range(2)]
    ends = [server.ended(run, PATIENCE_S) for run in both]
    assert [end["type"] for end in ends] == ["COMPLETED"] * 2, ends
    spans = [
        [datetime.fromisoformat(time) for pair in run["times"] for time in pair]
        for run in runs(server)
        if run["id"] in both
    ]
    (_, end), (begin, _) = sorted((min(span), max(span)) for span in spans)
    assert end <= begin
    aligned = [run["steps"].get("align") for run in runs(server) if run["id"] in both]
    assert sorted(aligned) == ["Cached", "Completed"]
    logs = server.api.post("/logs/filter", {"logs": {"flow_run_id": {"any_": both}}, "limit": 200})
    assert any("this one waits for it to end" in line["message"] for line in logs)


def test_scheduled_runs_never_overlapped(server):
    for number in range(len(runs(server))):
        finished_run(server, number)
    times = sorted(
        (min(begin for begin, _ in run["times"]), max(end for _, end in run["times"]))
        for run in runs(server)
        if run["times"]
    )
    assert all(earlier[1] <= later[0] for earlier, later in pairwise(times))
