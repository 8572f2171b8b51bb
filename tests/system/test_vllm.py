"""A whole run with vLLM as sampler and judge: its stages share one process, which ends with the run, also where that is killed."""

import json
import re
import signal
from pathlib import Path

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
    assert [log.count("agrees with the trainer's model") for log in logs] == [1, 0]

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


UPDATES, BATCH = 3, 8
SCORES = {"rewards": [{"name": "judge", "options": {"judge": {"name": "rubric"}}}]}
METHODS = {
    "ppo": {"num_ppo_epochs": 2, "rollout_ahead": 1, **SCORES},
    "online_dpo": SCORES,
    "nash_ema": {**SCORES, "ema_decay": 0.5},
}
"""Methods that sample while they train, with their options: policy gradients, comparisons, comparisons with an opponent of the trainer's."""


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("method", list(METHODS))
def test_a_method_samples_with_vllm_is_probed_at_each_update_and_goes_on_after_a_kill(method, empty, recipe):
    """The engine that takes the killed one's place gets the restored weights, and answers that were sampled are not sampled again."""
    needed_vllm()
    content = json.loads(recipe.read_text())
    content["align"] = {
        "method": method,
        "learning_rate": 1e-3,
        "max_steps": UPDATES,
        "batch_size": BATCH,
        "max_length": 96,
        "logging_steps": 1,
        "options": {"response_length": 12, "generator": "vllm", **METHODS[method]},
    }
    ahead = "rollout_ahead" in METHODS[method]
    recipe.write_text(json.dumps(content))
    with engine_place() as place:
        run = empty.start("run", recipe, "--until", "align")
        wait_until(lambda: saved(empty.store, "align-*/step-00000001") or run.poll() is not None, 900)
        assert run.poll() is None, run.communicate()[0]
        run.send_signal(signal.SIGKILL)
        run.communicate()
        wait_until(lambda: not hosts_in(place))
        sampled = saved(empty.store, "rollouts-ahead/step-*")
        assert sampled or not ahead, "the answers of the next update are on disk before the state"

        empty("run", recipe, "--until", "align")
        wait_until(lambda: not hosts_in(place))
    align = empty.artifact("align")
    manifest = json.loads((align / "manifest.json").read_text())
    assert manifest["config"]["options"]["generator"]["name"] == "vllm"
    answers = 2 if method == "online_dpo" else 1
    assert "generators.vllm" in manifest["versions"] and manifest["metrics"]["episodes"] == UPDATES * BATCH * answers
    curve = [json.loads(line) for line in (align / "side" / "curves.jsonl").read_text().splitlines()]
    assert [point["step"] for point in curve] == [1, 2, 3]
    assert [point.get("sampling/staleness") for point in curve] == ([0.0, 1.0, 1.0] if ahead else [None] * 3)
    assert all(0 <= point["sampling/probe_difference"] < 1e-3 for point in curve)
    # Answers that were drawn ahead are those of earlier weights.
    assert all(0 < point["sampling/sampling_logp_difference/max"] < (1 if ahead else 1e-3) for point in curve)
    assert "resumed after step" in (align / "side" / "log.txt").read_text()


def saved(store, pattern):
    """States of the training of align, whose work has the step's key as its name."""
    return [path for path in Path(store).rglob(pattern) if "align" in str(path)]
