"""Where a stage computes follows from the recipe alone, and what makes no sense together is refused with the reason."""

import pytest

from alignflow.data import catalogue
from alignflow.data.configs.recipe import EngineConfig
from alignflow.data.errors import UserError
from alignflow.tasks.launch import runtime
from alignflow.tasks.launch.runtime import key_components, resolve_runtime

GPU = {"device": "cuda", "training": "deepspeed"}


@pytest.fixture
def machine(monkeypatch):
    """Pretend to be a machine with so many cores and GPUs."""

    def pretend(cores=8, gpus=0):
        monkeypatch.setattr(runtime, "cores", lambda: cores)
        monkeypatch.setattr(runtime, "gpus", lambda: gpus)
        monkeypatch.setattr(runtime, "has_cuda", lambda: gpus > 0)

    pretend()
    return pretend


REFUSED = [
    ({"processes": 2, "training": "torch"}, "engine.processes", "one process"),
    ({"zero_stage": 2, "training": "torch"}, "engine.zero_stage", "DeepSpeed"),
    ({"offload": "optimizer", "training": "torch"}, "engine.offload", "DeepSpeed"),
    ({"offload": "optimizer", "device": "cpu"}, "engine.offload", "in CPU memory already"),
    ({**GPU, "offload": "all", "zero_stage": 2}, "engine.offload", "ZeRO 3"),
    ({**GPU, "processes": 5}, "engine.processes", "4 are visible"),
    ({"nodes": 2, "training": "deepspeed"}, "engine.rendezvous", "rendezvous address"),
    ({"rendezvous": "host:29500"}, "engine.rendezvous", "needs no rendezvous"),
    (
        {"nodes": 2, "node_rank": 2, "rendezvous": "host:29500", "training": "deepspeed"},
        "engine.node_rank",
        "node 2 of 2",
    ),
    (
        {"nodes": 2, "node_rank": 1, "rendezvous": "host:29500", "training": "deepspeed"},
        "engine.node_rank",
        "alignflow node",
    ),
]


@pytest.mark.parametrize(
    ("fields", "where", "why"), REFUSED, ids=[f"{case[1]}-{number}" for number, case in enumerate(REFUSED)]
)
def test_what_makes_no_sense_is_refused_with_the_reason(fields, where, why, machine):
    machine(gpus=4)
    with pytest.raises(UserError) as refusal:
        resolve_runtime(EngineConfig(**fields))
    assert refusal.value.where == where and why in str(refusal.value)


@pytest.mark.parametrize(
    "fields",
    [
        {**GPU, "offload": "all", "zero_stage": 3},
        {**GPU, "offload": "optimizer", "processes": 4},
        {"zero_stage": 3, "training": "deepspeed"},
        {"nodes": 2, "rendezvous": "node0.local:29500", "processes": 2, "training": "deepspeed"},
    ],
)
def test_what_makes_sense_is_not_refused(fields, machine):
    machine(gpus=4)
    resolved = resolve_runtime(EngineConfig(**fields))
    assert resolved.world_size == fields.get("processes", 1) * fields.get("nodes", 1)


def test_zero_0_runs_as_1(machine):
    assert resolve_runtime(EngineConfig(zero_stage=0)).zero_stage == 1


def test_processes_share_the_cores_unless_threads_are_given(machine):
    assert resolve_runtime(EngineConfig()).threads == 8
    assert resolve_runtime(EngineConfig(processes=4, training="deepspeed")).threads == 2
    assert resolve_runtime(EngineConfig(processes=16, training="deepspeed")).threads == 1
    assert resolve_runtime(EngineConfig(processes=4, threads=8, training="deepspeed")).threads == 8


def test_gpus_of_another_machine_take_the_place_of_those_that_are_visible(machine):
    assert resolve_runtime(EngineConfig(), visible=2).device == "cuda"
    assert resolve_runtime(EngineConfig(**GPU, processes=2), visible=2).processes == 2
    machine(gpus=4)
    assert resolve_runtime(EngineConfig(), visible=0).device == "cpu"
    with pytest.raises(UserError, match="no NVIDIA GPU"):
        resolve_runtime(EngineConfig(**GPU), visible=0)


def test_none_of_it_enters_the_key(machine):
    several = resolve_runtime(EngineConfig(processes=4, zero_stage=3, training="deepspeed"))
    one = resolve_runtime(EngineConfig(training="deepspeed"))
    row = catalogue.STAGES["sft"]
    assert key_components(row, several) == key_components(row, one)


@pytest.mark.parametrize(("visible", "expected"), [(None, 0), ("0,1", 2), ("", 0), ("-1", 0)])
def test_gpus_are_counted_by_what_is_visible(visible, expected, monkeypatch):
    monkeypatch.setattr(runtime, "has_cuda", lambda: visible not in ("", "-1"))
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setattr(runtime.Path, "glob", lambda self, pattern: [])
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert runtime.gpus() == expected
