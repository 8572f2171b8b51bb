"""Gates and growing data through the command line and through a served deployment, on a copy of the finished run."""

import gzip
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from system_support import REPOSITORY, STAGES, TINY

ASK = "gates=[{stage: reward, metric: eval_accuracy, minimum: 2, action: ask, why: nothing is so good}]"
NEVER = dict.fromkeys(STAGES, False)


def test_a_gate_that_asks_waits_for_approve_and_is_remembered(copy):
    waits = copy("run", TINY, "--set", ASK, status=3)
    assert "--approve reward.eval_accuracy" in waits and "nothing is so good" in waits and "reference  cached" not in waits
    assert copy.run("--set", ASK, "--approve", "reward.eval_accuracy") == NEVER
    assert copy.run("--set", ASK) == NEVER, "approved once"
    assert "reward.eval_accuracy: approved by" in copy("lineage", "reward-")
    stops = copy("run", TINY, "--set", ASK.replace("ask", "stop").replace("2,", "3,"), status=4)
    assert "should be at least 3" in stops and "Traceback" not in stops
    assert "approved by" in copy("plan", TINY, "--no-estimate", "--set", ASK)


def numbers(store, stage):
    """Rows that each artifact of a stage computed, in the order in which they were made."""
    manifests = [json.loads(path.read_text()) for path in (store / "artifacts").glob(f"{stage}-*/manifest.json")]
    return [manifest["cost"]["rows"] for manifest in sorted(manifests, key=lambda manifest: manifest["created"])]


def test_ten_new_prompts_sample_and_label_only_those_and_too_few_train_nothing(finished, empty, tmp_path):
    with gzip.open(REPOSITORY / "examples" / "quickstart" / "prompts.jsonl.gz", "rt") as file:
        rows = [next(file) for _ in range(26)]
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "2.jsonl").write_text("".join(rows[:16]))
    recipe = tmp_path / "nightly.yaml"
    recipe.write_text(
        f"model: {{path: {finished.artifact('sft') / 'payload'}}}\nsft: null\n"
        "data: {prompts: [{path: prompts}], heldout_fraction: 0.2}\nsample: {n: 2, max_new_tokens: 8}\nlabel: {batch_size: 4}\n"
        "gates: [{stage: label, metric: new/preferences/train, minimum: 1000, action: end}]\nengine: {threads: 1}\n"
    )
    first = empty("run", recipe)
    assert "ended there by a gate" in first and "reward" not in first.partition("label")[2].partition("gate")[0]
    (tmp_path / "prompts" / "1.jsonl").write_text("".join(rows[16:]))  # before the others, so that every place moves
    again = empty("run", recipe, "--approve", "label.new/preferences/train", "--until", "label")
    assert "init  cached" in again and "approved" in again
    prompts = [json.loads(path.read_text())["metrics"]["prompts"] for path in (empty.store / "artifacts").glob("sample-*/manifest.json")]
    new = max(prompts) - min(prompts)  # those of the ten that are on the training side
    assert 0 < new <= 10
    assert numbers(empty.store, "sample") == [2 * min(prompts), 2 * new] and numbers(empty.store, "label") == [min(prompts), new]


SERVE = "from alignflow.flows.deployed import pipeline; pipeline.serve(name='gated', pause_on_shutdown=False)"


@pytest.fixture
def served(copy):
    """The pipeline's deployment, served by a process of its own on the copied store."""
    log = (copy.store / "serve.log").open("w")
    environment = copy.environment(PREFECT_RUNNER_POLL_FREQUENCY="2")
    process = subprocess.Popen([sys.executable, "-c", SERVE], env=environment, cwd=REPOSITORY, stdout=log, stderr=log)
    yield copy
    process.terminate()
    process.wait(30)


def ask(url, path, content=None, attempts=10):
    """A request to the server; its SQLite may be locked for a moment."""
    request = urllib.request.Request(f"{url}/{path}", headers={"content-type": "application/json"})
    request.data = None if content is None else json.dumps(content).encode()
    for attempt in range(attempts):
        try:
            return json.loads(urllib.request.urlopen(request).read())
        except urllib.error.HTTPError:
            if attempt == attempts - 1:
                raise
            time.sleep(2)
    raise AssertionError


def wait_for(url, run, kinds):
    end = time.monotonic() + 240
    while (state := ask(url, f"flow_runs/{run}")["state"])["type"] not in kinds:
        assert time.monotonic() < end, state
        time.sleep(0.5)
    return state["type"]


def test_a_deployed_run_is_suspended_until_a_person_answers(served):
    url = served.url
    deployment = ask(url, "deployments/name/pipeline/gated", attempts=60)["id"]
    parameters = {"recipe": str(REPOSITORY / TINY), "more": [ASK]}
    run = ask(url, f"deployments/{deployment}/create_flow_run", {"parameters": parameters, "state": {"type": "SCHEDULED"}})["id"]
    assert wait_for(url, run, ("PAUSED", "FAILED", "CRASHED", "COMPLETED")) == "PAUSED"
    assert ask(url, f"flow_runs/{run}/resume", {"run_input": {"approve": "perhaps", "who": "Ann"}})["status"] == "REJECT"
    answer = {"approve": "yes", "who": "Ann", "comment": "looked at ten of them"}
    assert ask(url, f"flow_runs/{run}/resume", {"run_input": answer})["status"] == "ACCEPT"
    assert wait_for(url, run, ("FAILED", "CRASHED", "COMPLETED")) == "COMPLETED"
    assert "approved by Ann" in served("lineage", "reward-")
