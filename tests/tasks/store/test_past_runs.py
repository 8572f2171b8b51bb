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

    def make(key, stage="sft", hidden=None, device="cpu", tokens=6000.0, inputs=None, config=None):
        cost = {"wall_s": 60.0, "tokens": tokens}
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
    publish("sft-1", hidden=16, tokens=1.0)
    publish("sft-2", hidden=256, tokens=2.0)
    small, large = nearest_run(store, "sft", "cpu", 10_000), nearest_run(store, "sft", "cpu", 10**9)
    assert (small.tokens, large.tokens) == (1.0, 2.0) and small.parameters < large.parameters


def test_a_stage_that_makes_no_model_is_as_large_as_what_it_took(store, publish):
    policy = publish("init-1", stage="init", hidden=64)
    publish("sample-1", stage="sample", inputs={"policy": policy})
    assert nearest_run(store, "sample", "cpu", 1).parameters == nearest_run(store, "init", "cpu", 1).parameters > 0


def test_the_newest_of_equals_counts_and_an_unknown_size_is_better_than_none(store, publish):
    publish("label-1", stage="label", tokens=1.0)
    publish("label-2", stage="label", tokens=2.0)
    assert nearest_run(store, "label", "cpu", None).tokens == 2.0


def test_methods_of_one_stage_are_told_apart(store, publish):
    publish("align-1", stage="align", hidden=32, config={"method": "dpo"})
    assert nearest_run(store, "align", "cpu", 1, "ppo") is None and nearest_run(store, "align", "cpu", 1, "dpo")


def test_time_grows_with_tokens_and_weights_and_the_start_does_not():
    run = EarlierRun(60.0, 6000.0, 1000, startup_s=20.0)
    assert run.seconds(6000, 1000) == 60.0 and run.seconds(12000, 1000) == 100.0 and run.seconds(3000, None) == 40.0
    assert run.seconds(6000, 10_000) == 20.0 + 400.0
    assert EarlierRun(60.0, None, 1000).seconds(500, 1000) is None, "it counted no tokens"


def test_a_run_that_hardly_worked_says_nothing_about_much_more_work():
    assert EarlierRun(15.0, 6000.0, 1000, startup_s=14.9).seconds(6000, 10**9) is None
    assert EarlierRun(15.0, 6000.0, 1000, startup_s=14.9).seconds(12000, 1000) == pytest.approx(15.1)


def test_a_run_whose_start_was_not_measured_speaks_for_about_as_much_work_alone():
    assert EarlierRun(15.0, 6000.0, 1000).seconds(12000, 1000) == 30.0
    assert EarlierRun(15.0, 6000.0, 1000).seconds(60000, 1000) is None
