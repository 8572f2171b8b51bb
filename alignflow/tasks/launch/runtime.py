"""Where a stage computes: a fixed rule over chip, installed packages and recipe, never a timing. Asks no torch."""

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
    """Whether this process may use an NVIDIA GPU: the driver's device is there and CUDA_VISIBLE_DEVICES hides not all."""
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
    """Turn every `auto` into a value; raises UserError for what this machine lacks, and for what makes no sense together.

    Args:
        engine: The recipe's engine.
        width: Hidden size of the model that is trained, where it is known: it decides `precision`.
        visible: GPUs to reckon with; None: those that this process may use.
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
        ),  # 0 cannot give the gradient's norm, and one process has nothing to share out
        offload=engine.offload,
        processes=engine.processes,
        nodes=engine.nodes,
        node_rank=engine.node_rank,
        rendezvous=engine.rendezvous,
        environment=engine.environment,
    )


def default_threads(processes: int) -> int:
    """CPU threads of each of several processes of a stage on this machine."""
    return max(1, min(cores() // processes, MOST_THREADS))


def sharding(stage: str, config: BaseModel, engine: EngineConfig) -> Sharding:
    """How a stage's rows are shared out; a stage that cannot be is one process."""
    shards = getattr(config, "shards", 1) if STAGES[stage].fills else 1
    elsewhere = engine.dask_address or ""
    threads = engine.threads or (0 if elsewhere else default_threads(shards))
    return Sharding(shards=shards, task_runner=engine.task_runner, dask_address=elsewhere, threads=threads)


def check_engine(engine: EngineConfig, device: str, training: str, visible: int) -> None:
    """Refuse what is wrong in the library or senseless, with the reason; `device` and `training` are resolved, `visible` GPUs are there.

    Raises:
        UserError: the first field that does not go with the others.
    """
    refusals = (*_training_refusals(engine, device, training, visible), *_placement_refusals(engine))
    for wrong, field, what, advice in refusals:
        if wrong:
            raise UserError(what, where=f"engine.{field}", do=advice)


_Refusal = tuple[bool, str, str, str]
"""Whether the engine is refused, its field, what is wrong with it and what to do."""


def _training_refusals(engine: EngineConfig, device: str, training: str, visible: int) -> tuple[_Refusal, ...]:
    several = engine.processes * engine.nodes > 1
    return (
        (
            several and training == "torch",
            "processes",
            "the plain torch engine is one process",
            "set engine.training: deepspeed",
        ),
        (
            engine.zero_stage > 1 and training == "torch",
            "zero_stage",
            "ZeRO is DeepSpeed's",
            "set engine.training: deepspeed",
        ),
        (
            engine.offload != "none" and training == "torch",
            "offload",
            "offloading is DeepSpeed's",
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
            "weights can wait in CPU memory under ZeRO 3 alone",
            "set engine.zero_stage: 3, or engine.offload: optimizer",
        ),
        (
            device == "cuda" and engine.processes > max(1, visible),
            "processes",
            f"{engine.processes} processes need as many GPUs, and {visible} are visible",
            "lower it: each process has a GPU of its own",
        ),
    )


def _placement_refusals(engine: EngineConfig) -> tuple[_Refusal, ...]:
    host_and_port = (engine.rendezvous or ":0").rpartition(":")
    return (
        (
            engine.nodes > 1 and engine.rendezvous is None,
            "rendezvous",
            f"{engine.nodes} nodes need a place to meet",
            "set it to HOST:PORT, an address of node 0 that the others reach",
        ),
        (
            engine.nodes == 1 and engine.rendezvous is not None,
            "rendezvous",
            "one node has nobody to meet",
            "leave it out, or raise engine.nodes",
        ),
        (
            not 0 <= int(host_and_port[2]) < 65536,
            "rendezvous",
            f"{host_and_port[2]} is no port",
            "give one from 1 to 65535",
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
            "an address, and no Dask to use it",
            "set engine.task_runner: dask, or leave it out",
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
            "a recipe is run on node 0",
            "run `alignflow node --node-rank N` on the others",
        ),
    )


def key_components(stage: Stage, runtime: Runtime) -> dict[str, str]:
    """The part of a runtime that changes results by more than rounding, for the stages that it matters to."""
    components: dict[str, str] = {}
    if stage.trains:
        components["resolved.engine"] = runtime.engine
    if stage.generates:
        components["resolved.generator"] = runtime.generator
    if stage.trains or stage.generates or stage.scores:
        components["resolved.precision"] = runtime.precision
    return components
