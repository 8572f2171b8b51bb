"""Time from earlier runs: the same stage and device, the model nearest in size."""

import json

import pytest

from alignflow.data.artifacts import Manifest, digest_of, file_digest, payload_files
from alignflow.tasks.store.past_runs import EarlierRun, nearest_run

SIZES = {
    "model_type": "llama",
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 100,
}


@pytest.fixture
def publish(store):
    """Leave an artifact with a model of some width, or that took one, in the store."""

    def make(key, stage="sft", hidden=None, device="cpu", tokens_per_s=100.0, inputs=None, config=None):
        cost = {"wall_s": 60.0, "tokens_per_s": tokens_per_s}
        area = store.stage_area(key)
        if hidden:
            (area / "payload" / "config.json").write_text(json.dumps({**SIZES, "hidden_size": hidden}))
        files = {name: file_digest(area / "payload" / name) for name in payload_files(area / "payload")}
        manifest = Manifest(
            kind="checkpoint",
            key=key,
            digest=digest_of(files),
            stage=stage,
            files=files,
            parts={},
            components={},
            config=config or {},
            inputs=inputs or {},
            versions={},
            fingerprint="",
            libraries={},
            runtime={"device": device},
            seed=0,
            metrics={},
            cost=cost,
            created=key,
        )
        store.publish(area, manifest)
        return manifest.ref()

    return make


def test_without_an_earlier_run_there_is_no_figure(store, publish):
    publish("sft-1", hidden=32, device="cuda")
    assert nearest_run(store, "sft", "cpu", 10**6) is None and nearest_run(store, "align", "cuda", 10**6) is None


def test_the_model_nearest_in_size_counts_by_ratio(store, publish):
    publish("sft-1", hidden=16, tokens_per_s=1.0)
    publish("sft-2", hidden=256, tokens_per_s=2.0)
    small, large = nearest_run(store, "sft", "cpu", 10_000), nearest_run(store, "sft", "cpu", 10**9)
    assert (small.tokens_per_s, large.tokens_per_s) == (1.0, 2.0) and small.parameters < large.parameters


def test_a_stage_that_makes_no_model_is_as_large_as_what_it_took(store, publish):
    policy = publish("init-1", stage="init", hidden=64)
    publish("sample-1", stage="sample", inputs={"policy": policy})
    assert nearest_run(store, "sample", "cpu", 1).parameters == nearest_run(store, "init", "cpu", 1).parameters > 0


def test_the_newest_of_equals_counts_and_an_unknown_size_is_better_than_none(store, publish):
    publish("label-1", stage="label", tokens_per_s=1.0)
    publish("label-2", stage="label", tokens_per_s=2.0)
    assert nearest_run(store, "label", "cpu", None).tokens_per_s == 2.0


def test_methods_of_one_stage_are_told_apart(store, publish):
    publish("align-1", stage="align", hidden=32, config={"method": "dpo"})
    assert nearest_run(store, "align", "cpu", 1, "ppo") is None and nearest_run(store, "align", "cpu", 1, "dpo")


def test_time_grows_with_tokens_and_weights():
    run = EarlierRun(60.0, 100.0, 1000)
    assert run.seconds(500, 1000) == 5.0 and run.seconds(500, 4000) == 20.0 and run.seconds(500, None) == 5.0
    assert EarlierRun(60.0, None, 1000).seconds(500, 1000) is None
