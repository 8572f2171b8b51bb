"""A whole run with vLLM as sampler and judge: its stages share one process, which ends with the run, also where that is killed."""

import json
import re
import signal

import pyarrow.parquet as pq
import pytest
from engine_support import engine_place, hosts_in, needed_vllm
from tiny_model import make_checkpoint, wide_awake
from waiting import wait_until

PROMPTS, ANSWERS = 10, 3


@pytest.fixture
def recipe(tmp_path):
    """A recipe that samples and judges. Its judge prefers a seat, as random weights do: all pairs are ties, and the answers are labelled by
    their scores."""
    model = wide_awake(make_checkpoint(tmp_path, hidden_size=64, num_attention_heads=2, max_position_embeddings=4096))
    texts = tmp_path / "prompts.jsonl"
    texts.write_text("".join(json.dumps({"prompt": f"the cat and {number} dogs"}) + "\n" for number in range(PROMPTS)))
    engine = {"name": "vllm", "options": {"idle_s": 600.0}}  # a busy machine takes its time between two stages
    content = {
        "replace": {"sft": str(model)},
        "data": {"prompts": [{"path": str(texts)}], "decontaminate_ngram": 0},
        "sample": {"n": ANSWERS, "max_new_tokens": 12, "generator": engine},
        "label": {
            "judge": {"name": "llm", "options": {"max_length": 4096}, "generator": engine},
            "unpaired": {"by": "score"},
        },
        "engine": {"threads": 1, "precision": "fp32"},
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(content))  # JSON is YAML
    return path


def test_stages_share_one_process_which_ends_with_the_run_also_when_that_is_killed(empty, recipe):
    needed_vllm()
    with engine_place() as place:
        run = empty.start("run", recipe, "--until", "label")
        wait_until(lambda: hosts_in(place) or run.poll() is not None, 600)
        assert run.poll() is None, run.communicate()[0]
        run.send_signal(signal.SIGKILL)
        run.communicate()
        wait_until(lambda: not hosts_in(place))

        empty("run", recipe, "--until", "label")
        wait_until(lambda: not hosts_in(place))
    logs = [(empty.artifact(stage) / "side" / "log.txt").read_text() for stage in ("sample", "label")]
    processes = [re.findall(r"^vLLM [\d.]+ in process (\d+)", log, re.MULTILINE) for log in logs]
    assert len(processes[0]) == 1 and processes[0] == processes[1]
    assert [log.count("computes what the trainer's model does") for log in logs] == [1, 0]

    manifests = {
        stage: json.loads((empty.artifact(stage) / "manifest.json").read_text()) for stage in ("sample", "label")
    }
    assert manifests["sample"]["config"]["generator"]["name"] == "vllm"
    assert manifests["label"]["config"]["judge"]["generator"]["name"] == "vllm"
    rows = pq.read_table(empty.artifact("sample") / "payload" / "completions" / "train.parquet").to_pylist()
    assert sorted({row["id"] for row in rows}) == sorted(row["id"] for row in rows) and len(rows) == PROMPTS
    assert all(len(row["completions"]) == ANSWERS for row in rows)
    labelled = json.loads((empty.artifact("label") / "payload" / "statistics.json").read_text())["unpaired"]
    counted = [labelled[side][label] for side in ("train", "heldout") for label in ("good", "bad")]
    assert sum(counted) + sum(labelled["dropped"].values()) == PROMPTS * ANSWERS and sum(counted)
