"""Device, engine and precision of a stage: a fixed rule over chip, installed packages and recipe, never a timing. No torch."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from pydantic import BaseModel

from alignflow.data.catalogue import STAGES, Stage
from alignflow.data.configs.recipe import EngineConfig
from alignflow.data.errors import UserError
from alignflow.data.run import Runtime
from alignflow.tasks.launch.call import Sharding
from alignflow.tasks.launch.precision import auto_precision

MOST_THREADS = 8
MICRO_BATCH_TOKENS = {"cpu": 2048, "cuda": 8192}  # measured on a CPU: docs/measurements/benchmarks.md


def has_cuda() -> bool:
    """Whether this process may use an NVIDIA GPU: the driver's device exists and CUDA_VISIBLE_DEVICES does not hide all."""
    return Path("/dev/nvidiactl").exists() and os.environ.get("CUDA_VISIBLE_DEVICES", "0") not in ("", "-1")


def gpus() -> int:
    """NVIDIA GPUs that this process may use."""
    if not has_cuda():
        return 0
    present = len([path for path in Path("/dev").glob("nvidia[0-9]*") if path.name[len("nvidia") :].isdigit()])
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return present if named is None else len([name for name in named.split(",") if name.strip() not in ("", "-1")])


def cores() -> int:
    """CPU cores that this process may run on."""
    return len(os.sched_getaffinity(0))


def resolve_runtime(engine: EngineConfig, width: int | None = None, visible: int | None = None) -> Runtime:
    """Turn every `auto` into a value.

    Args:
        engine: The recipe's engine.
        width: Hidden size of the trained model, if known: it decides `precision`.
        visible: Number of GPUs to assume; None: those that this process may use.
    """
    visible = max(gpus(), int(has_cuda())) if visible is None else visible
    if engine.device == "cuda" and not visible:
        raise UserError("device cuda, but no NVIDIA GPU is visible", where="engine.device", do="set it to auto or cpu")
    device = engine.device if engine.device != "auto" else ("cuda" if visible else "cpu")
    precision = engine.precision if engine.precision != "auto" else auto_precision(device, width)
    installed = importlib.util.find_spec("deepspeed") is not None
    training = engine.training if engine.training != "auto" else ("deepspeed" if installed else "torch")
    check_engine(engine, device, training, visible)
    return Runtime(
        device=device,
        precision=precision,
        engine=training,
        threads=engine.threads or default_threads(engine.processes),
        micro_batch_tokens=engine.micro_batch_tokens or MICRO_BATCH_TOKENS[device],
        zero_stage=max(
            1, engine.zero_stage
        ),  # stage 0 cannot give the gradient norm, and one process has nothing to partition
        offload=engine.offload,
        processes=engine.processes,
        nodes=engine.nodes,
        node_rank=engine.node_rank,
        rendezvous=engine.rendezvous,
        environment=engine.environment,
    )


def default_threads(processes: int) -> int:
    """CPU threads per process, if several processes of a stage run on this machine."""
    return max(1, min(cores() // processes, MOST_THREADS))


def sharding(stage: str, config: BaseModel, engine: EngineConfig) -> Sharding:
    """How a stage's rows are split into shards; a stage that cannot be sharded is one process."""
    shards = getattr(config, "shards", 1) if STAGES[stage].fills else 1
    elsewhere = engine.dask_address or ""
    threads = engine.threads or (0 if elsewhere else default_threads(shards))
    return Sharding(shards=shards, task_runner=engine.task_runner, dask_address=elsewhere, threads=threads)


def check_engine(engine: EngineConfig, device: str, training: str, visible: int) -> None:
    """Refuse combinations that a library does not support or that make no sense; `device` and `training` are resolved, `visible` GPUs exist.

    Raises:
        UserError: the first field that conflicts with the others.
    """
    refusals = (*_training_refusals(engine, device, training, visible), *_placement_refusals(engine))
    for wrong, field, what, advice in refusals:
        if wrong:
            raise UserError(what, where=f"engine.{field}", do=advice)


_Refusal = tuple[bool, str, str, str]
"""(refused, field, what is wrong, what to do) tuples."""


def _training_refusals(engine: EngineConfig, device: str, training: str, visible: int) -> tuple[_Refusal, ...]:
    several = engine.processes * engine.nodes > 1
    return (
        (
            several and training == "torch",
            "processes",
            "the plain torch engine runs in one process",
            "set engine.training: deepspeed",
        ),
        (
            engine.zero_stage > 1 and training == "torch",
            "zero_stage",
            "ZeRO needs the DeepSpeed engine",
            "set engine.training: deepspeed",
        ),
        (
            engine.offload != "none" and training == "torch",
            "offload",
            "offloading needs the DeepSpeed engine",
            "set engine.training: deepspeed",
        ),
        (
            engine.offload != "none" and device == "cpu",
            "offload",
            "on a CPU everything is in CPU memory already",
            "set it to none",
        ),
        (
            engine.offload == "all" and engine.zero_stage != 3,
            "offload",
            "weights can be offloaded to CPU memory only with ZeRO 3",
            "set engine.zero_stage: 3, or engine.offload: optimizer",
        ),
        (
            device == "cuda" and engine.processes > max(1, visible),
            "processes",
            f"{engine.processes} processes need as many GPUs, but {visible} are visible",
            "lower it: each process needs its own GPU",
        ),
    )


def _placement_refusals(engine: EngineConfig) -> tuple[_Refusal, ...]:
    host_and_port = (engine.rendezvous or ":0").rpartition(":")
    return (
        (
            engine.nodes > 1 and engine.rendezvous is None,
            "rendezvous",
            f"{engine.nodes} nodes need a rendezvous address",
            "set it to HOST:PORT, an address of node 0 that the other nodes can reach",
        ),
        (
            engine.nodes == 1 and engine.rendezvous is not None,
            "rendezvous",
            "a single node needs no rendezvous",
            "remove it, or raise engine.nodes",
        ),
        (
            not 0 <= int(host_and_port[2]) < 65536,
            "rendezvous",
            f"{host_and_port[2]} is not a port",
            "use a port from 1 to 65535",
        ),
        (
            engine.node_rank >= engine.nodes,
            "node_rank",
            f"node {engine.node_rank} of {engine.nodes}",
            "they are numbered from 0",
        ),
        (
            engine.dask_address is not None and engine.task_runner != "dask",
            "dask_address",
            "the address is set, but Dask is not used",
            "set engine.task_runner: dask, or remove the address",
        ),
        (
            engine.task_runner == "dask" and importlib.util.find_spec("prefect_dask") is None,
            "task_runner",
            "prefect-dask is not installed",
            "pip install 'alignflow[dask]', or set it to local",
        ),
        (
            engine.node_rank > 0,
            "node_rank",
            "a recipe runs on node 0",
            "run `alignflow node --node-rank N` on the other machines",
        ),
    )


def key_components(stage: Stage, runtime: Runtime) -> dict[str, str]:
    """The part of a runtime that changes a stage's results by more than rounding; empty for stages that it does not affect."""
    components: dict[str, str] = {}
    if stage.trains:
        components["resolved.engine"] = runtime.engine
    if stage.generates:
        components["resolved.generator"] = runtime.generator
    if stage.trains or stage.generates or stage.scores:
        components["resolved.precision"] = runtime.precision
    return components
