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
