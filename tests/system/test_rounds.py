"""A staged method as a person runs it: two rounds, found by a rerun, and run again only from the part on that changed."""

import json

from system_support import TINY

from alignflow.data.records import is_held_out, user

ROUNDS = ("reference.1", "align.1", "reference.2", "align.2")


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


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
