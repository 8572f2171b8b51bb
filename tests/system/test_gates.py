"""Gates and growing data through the command line, on a copy of the finished run."""

import gzip
import json

from system_support import REPOSITORY, STAGES, TINY

ASK = "gates=[{stage: reward, metric: eval_accuracy, minimum: 2, action: ask, why: nothing is so good}]"
NEVER = dict.fromkeys(STAGES, False)


def test_a_gate_that_asks_waits_for_approve_and_is_remembered(copy):
    waits = copy("run", TINY, "--set", ASK, status=3)
    assert (
        "--approve reward.eval_accuracy" in waits and "nothing is so good" in waits and "reference  cached" not in waits
    )
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
    assert "a gate ended the run" in first and "reward" not in first.partition("label")[2].partition("gate")[0]
    (tmp_path / "prompts" / "1.jsonl").write_text("".join(rows[16:]))  # before the others, so that every place moves
    again = empty("run", recipe, "--approve", "label.new/preferences/train", "--until", "label")
    assert "init  cached" in again and "approved" in again
    prompts = [
        json.loads(path.read_text())["metrics"]["prompts"]
        for path in (empty.store / "artifacts").glob("sample-*/manifest.json")
    ]
    new = max(prompts) - min(prompts)  # those of the ten that are on the training side
    assert 0 < new <= 10
    assert numbers(empty.store, "sample") == [2 * min(prompts), 2 * new] and numbers(empty.store, "label") == [
        min(prompts),
        new,
    ]
