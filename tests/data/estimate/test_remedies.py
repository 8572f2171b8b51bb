"""What is proposed where a stage does not fit: only what this version has, and only what the arithmetic says is enough."""

from dataclasses import replace

from alignflow.data.estimate.demands import Demand, Settings
from alignflow.data.estimate.memory import LearningModel, training_need
from alignflow.data.estimate.place import GIB, Place
from alignflow.data.estimate.remedies import remedies
from alignflow.data.estimate.shapes import ModelShape

EIGHT_B = ModelShape("llama", 4096, 32, 32, 8, 128, 14336, 128256)
ALL = frozenset(
    {"batch_size", "training", "micro_batch_tokens", "gradient_checkpointing", "offload", "processes", "lora"}
)


def training(place=Place("cuda", "bf16"), tokens=16384):  # noqa: B008 (frozen)
    def need(settings):
        budget = settings.micro_batch_tokens
        return training_need(
            LearningModel(EIGHT_B, budget, budget, settings.lora_rank, settings.gradient_checkpointing), settings.place
        )

    return Demand(Settings(place, tokens), need, longest_row=512)


def under(limit):
    return lambda settings, need: need.peak.total <= limit * GIB


def changes(demand, limit, known=ALL):
    return {remedy.change: remedy for remedy in remedies(demand, "sft", known, under(limit))}


def test_every_change_that_is_proposed_alone_is_enough():
    found = changes(training(), 80)
    assert found and all(remedy.fits and remedy.need.peak.total <= 80 * GIB for remedy in found.values())
    assert "sft.lora: {r: 16}" not in found, "with 16,384 tokens of activations an adapter alone is not enough"


def test_a_smaller_budget_is_the_largest_that_fits():
    demand = training(Place("cuda", "bf16", zero_stage=3, processes=8))
    (change, remedy) = next(iter(changes(demand, 80, frozenset({"micro_batch_tokens"})).items()))
    tokens = int(change.split(": ")[1])
    twice = demand.need(replace(demand.settings, micro_batch_tokens=2 * tokens))
    assert remedy.fits and twice.peak.total > 80 * GIB and tokens < 16384


def test_where_no_change_alone_is_enough_they_add_up():
    (change,) = changes(training(), 48)
    assert "micro_batch_tokens: 512" in change and "gradient_checkpointing" in change


def test_what_this_version_does_not_have_is_not_proposed():
    (change,) = changes(training(), 80, frozenset({"micro_batch_tokens", "batch_size"}))
    assert change == "engine.micro_batch_tokens: 512"


def test_what_cannot_be_helped_is_said_to_be_still_too_much():
    (remedy,) = changes(training(), 1).values()
    assert not remedy.fits


def test_weights_are_offloaded_under_zero_3_alone():
    two = changes(training(Place("cuda", "bf16", zero_stage=2, processes=8), 1024), 79)
    assert "engine.offload: optimizer" in two and "engine.offload: all" not in two
    three = training(Place("cuda", "bf16", zero_stage=3, processes=8), 1024)
    optimizer, everything = (
        three.need(replace(three.settings, place=replace(three.settings.place, offload=value))).peak.total / GIB
        for value in ("optimizer", "all")
    )
    assert "engine.offload: all" in changes(three, (optimizer + everything) / 2)


def test_one_gpu_is_told_that_zero_3_offloads_everything():
    adapter = training(tokens=1024)
    adapter = replace(adapter, settings=replace(adapter.settings, lora_rank=16, gradient_checkpointing=True))
    together = "engine.zero_stage: 3, engine.offload: all"
    assert list(changes(adapter, 17.5, ALL - {"processes"})) == [together]
    assert together not in changes(replace(adapter, whole=True), 17.5, ALL - {"processes"}), (
        "the whole policy is needed"
    )


def test_sampling_takes_fewer_rows():
    from alignflow.data.estimate.memory import Rollout, generation_need

    demand = Demand(
        Settings(Place("cuda", "bf16"), 8192, rows=512),
        lambda settings: generation_need(EIGHT_B, Rollout(settings.rows, 4096, 4096), settings.place),
    )
    (change, remedy), *_ = changes(demand, 80).items()
    assert change.startswith("sft.batch_size: ") and remedy.fits


def test_one_process_is_told_of_plain_torch_and_several_are_not():
    assert "engine.training: torch" in changes(training(Place("cpu"), 1024), 150, frozenset({"training"}))
    several = remedies(training(Place("cpu", processes=2), 1024), "sft", frozenset({"training"}), under(1))
    assert several == []


def test_on_a_cpu_more_processes_are_more_machines():
    (change,) = changes(training(Place("cpu"), 1024), 60, frozenset({"processes"}))
    assert change.endswith("processes (engine.nodes)")
