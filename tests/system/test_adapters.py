"""The whole pipeline on adapters: trained, merged where they are loaded, exported, and repaired where a base is damaged."""

import json
import os

import pytest
from system_support import STAGES, TINY, outcomes

pytest.importorskip("peft")

LORA = [
    part
    for stage in ("sft", "reward", "align")
    for part in ("--set", f"{stage}.lora.r=4", "--set", f"{stage}.eval_steps=2")
]


@pytest.mark.timeout(1500)
def test_a_whole_run_of_adapters(empty, tmp_path):
    assert empty.run(*LORA) == dict.fromkeys(STAGES, True)
    assert empty.run(*LORA) == dict.fromkeys(STAGES, False)
    for stage, base in (("sft", "init"), ("reward", "sft"), ("align", "sft")):
        payload = empty.artifact(stage) / "payload"
        assert (payload / "adapter_model.safetensors").is_file() and not (payload / "model.safetensors").exists()
        assert json.loads((payload / "base.json").read_text())["key"] == empty.artifact(base).name
        assert list((empty.artifact(stage) / "side" / "tensorboard").iterdir())
        assert json.loads((empty.artifact(stage) / "manifest.json").read_text())["metrics"]["best_step"]

    empty("export", empty.artifact("align").name, tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").is_file()

    before, weights = empty.digests(), empty.artifact("init") / "payload" / "model.safetensors"
    known, content = weights.stat(), bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    os.utime(weights, ns=(known.st_atime_ns, known.st_mtime_ns))
    output = empty("run", TINY, *LORA, "--set", "align.options.beta=0.2")
    found, after = outcomes(output), empty.digests()
    assert "init was damaged and runs again" in output and after["init"] == before["init"]
    assert [stage for stage in STAGES if found[stage]] == ["init", "align", "evaluate", "report"]
    assert [stage for stage in STAGES if after[stage] != before[stage]] == ["align", "evaluate", "report"]


PAFT = (
    *(
        "--set",
        "data.preferences=[{path: ../examples/quickstart/preferences.jsonl.gz, max_rows: 40, licence: CC0-1.0}]",
    ),
    *("--set", "reward=null", "--set", "sft.lora.r=4", "--set", "align.lora.r=2", "--set", "sft.l1_coefficient=0.001"),
)


@pytest.mark.timeout(1500)
@pytest.mark.long
def test_two_adapters_of_one_base_are_merged_evaluated_reported_and_exported(empty, tmp_path):
    steps = ("init", "prepare", "sft", "reference", "align", "merge", "evaluate", "report")
    ties, linear = ((*PAFT, "--set", f"merge.method={method}") for method in ("ties", "linear"))
    assert empty.run(*ties) == dict.fromkeys(steps, True)
    inputs = {name: json.loads((empty.artifact(name) / "manifest.json").read_text())["inputs"] for name in steps}
    keys = {name: empty.artifact(name).name for name in steps}
    for name, taken in (("sft", "base"), ("align", "policy"), ("reference", "checkpoint"), ("merge", "base")):
        assert inputs[name][taken]["key"] == keys["init"]
    assert (inputs["evaluate"]["aligned"]["key"], inputs["evaluate"]["sft"]["key"]) == (keys["merge"], keys["sft"])
    facts = json.loads((empty.artifact("report") / "payload" / "report.json").read_text())
    assert facts["merge"]["metrics"] == facts["stages"]["merge"]["metrics"] and facts["merge"]["matrices"]
    assert "Merged adapters" in (empty.artifact("report") / "side" / "report.html").read_text()
    empty("export", keys["merge"], tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").is_file()
    assert [step for step, ran in empty.run(*linear).items() if ran] == ["merge", "evaluate", "report"]
