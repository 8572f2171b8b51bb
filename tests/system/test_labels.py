"""One labelling feeds a method of single answers: what it learns from is what the label stage wrote, and each answer is accounted for."""

import json

import pyarrow.parquet as pq
from system_support import TINY

KTO = ("--set", "align.method=kto", "--set", "reward=null", "--set", "evaluate=null", "--set", "report=null")


def test_kto_learns_from_the_labels_of_the_pairs_labelling(copy):
    output = copy("run", TINY, *KTO, "--set", "label.unpaired.best=2")
    assert "labelled answers: kept " in output and "no step of the recipe takes" not in output
    manifests = {
        path.parent.name: json.loads(path.read_text()) for path in (copy.store / "artifacts").glob("*/manifest.json")
    }
    (aligned,) = [each for each in manifests.values() if each["stage"] == "align" and each["config"]["method"] == "kto"]
    taken = aligned["inputs"]["unpaired"]
    assert taken["part"] == "unpaired" and "preferences" not in aligned["inputs"]
    payload = copy.store / "artifacts" / taken["key"] / "payload"
    statistics = json.loads((payload / "statistics.json").read_text())["unpaired"]
    rows = {side: pq.read_table(payload / "unpaired" / f"{side}.parquet").to_pylist() for side in ("train", "heldout")}
    for side, found in rows.items():
        assert statistics[side] == {
            "good": sum(row["label"] for row in found),
            "bad": sum(not row["label"] for row in found),
        }
    sampled = next(each for each in manifests.values() if each["stage"] == "label" and each["key"] == taken["key"])
    completions = (
        copy.store / "artifacts" / sampled["inputs"]["completions"]["key"] / "payload" / "completions" / "train.parquet"
    )
    candidates = sum(len(row["completions"]) for row in pq.read_table(completions).to_pylist())
    assert sum(map(len, rows.values())) + sum(statistics["dropped"].values()) == candidates
    assert rows["train"] and aligned["metrics"]["eval_rewards/chosen"] is not None
