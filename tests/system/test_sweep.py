"""A sweep as a person runs it: what its members share runs once, and a rerun finds everything."""

import json

from system_support import TINY


def test_a_sweep_runs_what_differs_and_a_rerun_finds_it(copy, tmp_path):
    words = (
        "sweep",
        TINY,
        "--methods",
        "dpo,kto,dro_v",
        "--output",
        tmp_path / "out",
        "--set",
        "evaluate=null",
        "--set",
        "report=null",
    )
    output = copy(*words)
    made = {
        name: len(list((copy.store / "artifacts").glob(f"{name}-*"))) for name in ("sft", "sample", "label", "align")
    }
    assert made == {"sft": 1, "sample": 1, "label": 1, "align": 3}, "dpo was there"
    found = {result["method"]: result for result in json.loads((tmp_path / "out" / "sweep.json").read_text())}
    assert not any(result["error"] for result in found.values()) and "3 of 3" in output
    assert {found[name]["family"] for name in found} == {"pairs", "unpaired", "scored"}
    assert (
        found["kto"]["metrics"]["eval_rewards/chosen"] is not None
        and "| kto |" in (tmp_path / "out" / "sweep.md").read_text()
    )
    assert " ran in " not in copy(*words)
