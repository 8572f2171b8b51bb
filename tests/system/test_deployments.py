"""A server with one worker: every flow is there, a stage runs by itself from its form, schedules come and go."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from double_start import Api, play, whole
from system_support import REPOSITORY, TINY

from alignflow.data import catalogue
from alignflow.flows.forms import STANDS_IN
from alignflow.tasks.store.artifact_store import ArtifactStore

RECIPE = str(REPOSITORY / TINY)
FLOWS = {"pipeline", "sweep", "rlaif-data", *catalogue.STAGES} - set(STANDS_IN)


class Server:
    """The server's API, as a page or a script uses it."""

    def __init__(self, url, store):
        self.url, self.store = url, store

    def ask(self, path, content=None):
        request = urllib.request.Request(
            f"{self.url}{path}",
            None if content is None else json.dumps(content).encode(),
            {"content-type": "application/json"},
        )
        for attempt in range(10):
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:  # 503: its SQLite is locked for a moment
                if error.code != 503 or attempt == 9:
                    raise
            time.sleep(2)
        raise AssertionError("unreachable")

    def deployments(self):
        return {found["name"]: found for found in self.ask("/deployments/filter", {})}

    def start(self, name, **parameters):
        return self.ask(f"/deployments/{self.deployments()[name]['id']}/create_flow_run", {"parameters": parameters})[
            "id"
        ]

    def end(self, run, seconds=600, kinds=("COMPLETED", "FAILED", "CRASHED", "CANCELLED")):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = self.ask(f"/flow_runs/{run}")
            if found["state_type"] in kinds:
                return found
            time.sleep(1)
        raise AssertionError(f"still {found['state_type']}")

    def tasks(self, run):
        return {
            task["name"]: task["state_name"]
            for task in self.ask("/task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
        }

    def artifacts(self, run):
        found = self.ask("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run]}}})
        return {artifact["key"]: artifact for artifact in found if artifact["key"]}

    def log(self, run):
        return "\n".join(
            line["message"] for line in self.ask("/logs/filter", {"logs": {"flow_run_id": {"any_": [run]}}})
        )


@pytest.fixture(scope="module")
def server(finished, tmp_path_factory):
    """A worker on a copy of the finished store, and every flow registered."""
    copied = finished.copy(tmp_path_factory.mktemp("served") / "store")
    environment = copied.environment(
        PREFECT_WORKER_QUERY_SECONDS="1", PREFECT_LOGGING_TO_API_ENABLED="true", PREFECT_LOGGING_LEVEL="INFO"
    )
    log = (copied.store / "worker.log").open("w")

    def prefect(*arguments):
        return [sys.executable, "-m", "prefect", *arguments]

    def work_on(pool):
        subprocess.run(
            prefect("work-pool", "create", "--type", "process", pool), env=environment, check=True, capture_output=True
        )
        return subprocess.Popen(
            prefect("worker", "start", "--pool", pool),
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    workers = [work_on("tested")]
    register = [sys.executable, "-m", "alignflow.flows.deployments", "default=tested"]
    names = subprocess.run(register, env=environment, check=True, capture_output=True, text=True).stdout.split()
    assert set(names) == FLOWS
    served = Server(finished.url, copied)
    served.register = lambda pools: subprocess.run(
        [*register[:-1], pools], env=environment, capture_output=True, text=True
    )
    served.add_pool = lambda pool: workers.append(work_on(pool))
    yield served
    for worker in workers:
        os.killpg(worker.pid, signal.SIGTERM)
    for worker in workers:
        worker.wait(60)


def test_a_stage_alone_from_its_form_with_its_pages(server):
    assert set(server.deployments()) >= FLOWS
    run = server.start("align", recipe=RECIPE, settings={"options": {"beta": 0.3}})
    found = server.end(run)
    assert (found["state_type"], found["name"]) == ("COMPLETED", "tiny align beta=0.3"), server.log(run)
    tasks = {name.split()[0]: (name.endswith(" cached"), state) for name, state in server.tasks(run).items()}
    assert tasks.pop("align") == (False, "Completed")
    assert tasks == dict.fromkeys(("init", "prepare", "sft", "sample", "label", "reference"), (True, "Cached"))
    artifacts = server.artifacts(run)
    (page,) = [artifact["data"] for key, artifact in artifacts.items() if key.startswith("align-")]
    assert (
        f"/v2/deployments/deployment/{server.deployments()['align']['id']}/run?parameters=" in page
        and "data:image/png" in page
    )
    assert {artifact["type"] for artifact in artifacts.values()} >= {
        "markdown",
        "progress",
    } and "tiny-align-overview" in artifacts
    assert "takes sft: sft-" in server.log(run) and "align runs: config.align.options.beta" in server.log(run)


def test_wrong_values_are_refused(server):
    with pytest.raises(urllib.error.HTTPError) as raised:
        server.start("align", recipe=RECIPE, settings={"sft_coefficient": -1})
    assert raised.value.code == 409 and b"settings.sft_coefficient" in raised.value.read()
    with pytest.raises(urllib.error.HTTPError) as raised:
        server.start("align", recipe=RECIPE, beta=0.3)
    assert raised.value.code == 409 and b"beta" in raised.value.read()
    done = server.register("default=nowhere")
    assert done.returncode == 2 and "no work pool 'nowhere'" in done.stderr and "tested" in done.stderr
    run = server.start("align", recipe=RECIPE, settings={"options": {"betta": 1}})
    message = server.end(run)["state"]["message"]
    said = server.store("plan", TINY, "--set", "align.options={betta: 1}", status=2)
    assert message.splitlines()[0] in said and server.tasks(run) == {}


GATE = "gates=[{stage: reward, metric: eval_accuracy, minimum: 2, action: ask, why: nothing is so good}]"


def test_a_run_is_suspended_by_a_gate_until_a_person_answers(server):
    run = server.start("pipeline", recipe=RECIPE, more=[GATE])
    found = server.end(run, kinds=("PAUSED", "COMPLETED", "FAILED", "CRASHED"))
    assert found["state_type"] == "PAUSED", server.log(run)
    assert (
        server.ask(f"/flow_runs/{run}/resume", {"run_input": {"approve": "perhaps", "who": "Ann"}})["status"]
        == "REJECT"
    )
    answer = {"approve": "yes", "who": "Ann", "comment": "looked at ten of them"}
    assert server.ask(f"/flow_runs/{run}/resume", {"run_input": answer})["status"] == "ACCEPT"
    assert server.end(run)["state_type"] == "COMPLETED", server.log(run)
    assert "approved by Ann" in server.store("lineage", "reward-")


def test_a_recipe_that_is_started_in_two_pools_at_once_is_done_once(server):
    server.add_pool("second")
    played = play(Api(server.url), ArtifactStore(server.store.store), whole(101, "sft", ("tested", "second")))
    assert played.good, played
    assert {step.split()[0] for step, times in played.made.items() if times} == {
        "init",
        "sft",
    }  # the seed does not change `prepare`


def test_preference_data_on_demand(server, finished, tmp_path):
    (tmp_path / "asked.jsonl").write_text(
        "".join(json.dumps({"prompt": f"Write about {n}."}) + "\n" for n in range(12))
    )
    sft = finished.artifact("sft").name
    settings = {"sample_n": 3, "sample_max_new_tokens": 8, "data_max_prompt_length": 64, "sample_max_prompt_length": 64}
    run = server.start(
        "rlaif-data",
        prompts=str(tmp_path / "asked.jsonl"),
        model=sft[:16],
        settings=settings,
        out=str(tmp_path / "made"),
    )
    found = server.end(run)
    assert found["state_type"] == "COMPLETED", server.log(run)
    assert {"train.parquet", "statistics.json", "manifest.json"} <= {
        path.name for path in (tmp_path / "made").iterdir()
    }
    assert {name.split()[0] for name in server.tasks(run)} == {"init", "prepare", "sample", "label", "report"}
    tables = {key for key, artifact in server.artifacts(run).items() if artifact["type"] == "table"}
    assert tables == {
        f"asked-by-rubric-{name}"
        for name in ("sample-samples", "sample-statistics", "label-samples", "label-statistics", "label-judge")
    }


BROKEN = """
from alignflow.models.losses import LossOutput, method
@method(family="pairs")
def one_number(batch, options):
    return LossOutput(batch.logps()[0].sum())
"""


@pytest.mark.long
def test_a_sweep_from_its_form_has_a_run_for_each_member_and_a_table_with_a_picture(server, tmp_path):
    (tmp_path / "broken.py").write_text(BROKEN)
    axes = {"methods": ["kto", "dpo"], "own": [f"{tmp_path / 'broken.py'}:one_number"], "options": ["kto.beta=0.2"]}
    run = server.start("sweep", recipe=RECIPE, axes=axes, more=["report=null"])
    found = server.end(run)
    assert (found["state_type"], found["name"]) == ("COMPLETED", "tiny sweep report=null"), server.log(run)
    members = server.ask("/flow_runs/filter", {"flow_runs": {"parent_flow_run_id": {"any_": [run]}}})
    states = {member["name"]: member["state_type"] for member in members}
    assert states == {"kto 0.0001": "COMPLETED", "dpo 0.0001": "COMPLETED", "broken.py:one_number 0.0001": "FAILED"}
    artifacts = server.artifacts(run)
    rows = json.loads(artifacts["tiny-sweep-table"]["data"])
    assert [row["method"] for row in rows] == ["dpo", "broken.py:one_number", "kto"], "by family"
    assert "shape (); expected (" in rows[1]["accuracy or rewards"] and "rubric:reader" in rows[2]["win rate"]
    page = artifacts["tiny-sweep"]["data"]
    assert "3 of 3 members ended, 1 of them without a result" in page and "data:image/png" in page
    of_dpo = next(member["id"] for member in members if member["name"].startswith("dpo"))
    assert "align cached" in server.log(of_dpo) and "tiny-dpo-0-0001-sweep-member-overview" in server.artifacts(of_dpo)

    again = server.start("sweep", recipe=RECIPE, axes={**axes, "own": []}, more=["report=null"])
    assert server.end(again)["state_type"] == "COMPLETED", server.log(again)
    for member in server.ask("/flow_runs/filter", {"flow_runs": {"parent_flow_run_id": {"any_": [again]}}}):
        assert set(server.tasks(member["id"]).values()) == {"Cached"}, "it goes on where the first one ended"


def test_a_schedule_is_added_paused_kept_and_removed(server):
    command = server.store
    command(
        "schedule",
        "add",
        "pipeline",
        "--recipe",
        RECIPE,
        "--cron",
        "0 2 * * *",
        "--name",
        "nightly",
        "--set",
        "align.options.beta=0.2",
    )
    command("schedule", "pause", "nightly")
    assert server.register("default=tested").returncode == 0
    (line,) = [line for line in command("schedule", "list").splitlines() if "nightly" in line]
    assert "paused" in line and "cron 0 2 * * *" in line and "align.options.beta=0.2" in line
    command("schedule", "resume", "nightly")
    assert server.deployments()["nightly"]["parameters"] == {"recipe": RECIPE, "more": ["align.options.beta=0.2"]}
    assert "did you mean 'nightly'?" in command("schedule", "remove", "nightli", status=2)
    command("schedule", "remove", "nightly")
    assert "nightly" not in server.deployments() and "nightly" not in command("schedule", "list")
