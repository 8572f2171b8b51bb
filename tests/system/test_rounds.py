"""Rounds as a person runs them: found by a rerun, run again only from what changed on, and the same after kill -9 in the second."""

import json
import time

import pytest
from system_support import TINY

from alignflow.data.records import is_held_out, user

ROUNDS = ("reference.1", "align.1", "reference.2", "align.2")


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.long
def test_rounds_run_are_found_and_run_again_from_the_part_on_that_changed(copy, tmp_path):
    pairs = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"say {n}", "chosen": f"{n} of course", "rejected": f"no {n}"} for n in range(24)]
    written(pairs, rows)
    settings = [
        f"data.preferences=[{{path: {pairs}}}]",
        "align.method=sdpo",
        "align.options={order: given}",
        "align.max_steps=2",
        "evaluate=null",
    ]
    words = [word for setting in settings for word in ("--set", setting)]
    first = copy.run(*words)
    assert all(first[name] for name in ("split", *ROUNDS)) and not first["sft"]
    again = copy.run(*words)
    assert set(again) == set(first) and not any(again.values())
    last = max(n for n, row in enumerate(rows) if not is_held_out(user(row["prompt"]), 0.2))
    rows[last]["rejected"] = "never"
    written(pairs, rows)
    changed = copy.run(*words)
    assert {name: changed[name] for name in ROUNDS} == dict.fromkeys(ROUNDS[:2], False) | dict.fromkeys(
        ROUNDS[2:], True
    )
    forced = copy("run", TINY, *words, "--force", "align.2")
    assert "align.2  ran" in forced and "align.1  cached" in forced
    (report,) = [
        facts
        for path in (copy.store / "artifacts").glob("report-*/payload/report.json")
        if "align.2" in (facts := json.loads(path.read_text())["stages"]) and facts["split"]["metrics"]
    ][-1:]
    assert (report["align.1"]["round"], report["align.2"]["round"]) == (1, 2)
    assert report["align.2"]["inputs"]["policy"] == report["align.1"]["key"]
    assert report["split"]["metrics"]["pairs/1"] > 0


SELF_PLAY = (
    "align.method=sppo",
    "rounds.number=2",
    "reward=null",
    "evaluate=null",
    "report=null",
    "sample={n: 2, max_new_tokens: 8}",
    "align={method: sppo, max_steps: 3, batch_size: 8, max_length: 160, save_steps: 1}",
)


def newest(store, step):
    """The digest of the newest artifact of a stage; None where there is none."""
    found = [json.loads(path.read_text()) for path in (store / "artifacts").glob(f"{step}-*/manifest.json")]
    return max(((each["created"], each["digest"]) for each in found), default=(None, None))[1]


def wait_for_second_round(store, process, references, seconds=600):
    """Wait until the second training has a state to go on from; there were so many artifacts of `reference` before the run."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        begun = [path.parent.name for path in (store / "work").glob("align-*/step-*")]
        done = {path.name for path in (store / "artifacts").glob("align-*")}
        rounds = len(list((store / "artifacts").glob("reference-*"))) - references
        if rounds == 2 and any(name not in done for name in begun):
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    raise AssertionError("the second round did not begin")


def test_a_kill_in_the_second_round_changes_nothing(copy, tmp_path):
    words = [word for setting in SELF_PLAY for word in ("--set", setting)]
    other = copy.copy(tmp_path / "other")
    references = len(list((other.store / "artifacts").glob("reference-*")))
    first = copy.run(*words)
    assert all(first[f"{base}.{number}"] for base in ("sample", "label", "reference", "align") for number in (1, 2))
    process = other.start("run", TINY, *words)
    wait_for_second_round(other.store, process, references)
    process.kill()
    process.wait()
    again = other.run(*words)
    assert again["align.2"] and not any(again[name] for name in ("align.1", "sample.2", "label.2", "reference.2"))
    assert newest(other.store, "align") == newest(copy.store, "align")
