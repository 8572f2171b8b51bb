"""The door for processes: runs one stage body from a JSON file, and leaves result.json or error.json beside it.

`python -m alignflow.worker SPEC.json [--node-rank N]`. It needs no Prefect. Everything printed goes to the stage's log
file. Where the stage has several processes, this one starts torchrun, which starts it again once for each of them.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import sys


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies (Linux; elsewhere the supervisor's pipe alone does it)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    expected = os.environ.get("ALIGNFLOW_TORCHRUN" if "RANK" in os.environ else "ALIGNFLOW_SUPERVISOR")
    if expected and os.getppid() != int(expected):  # it was gone before this line
        os._exit(1)


class LastAct:
    """Ends the process when Python's exit handlers have run, before the interpreter is taken down.

    A thread of torch's Gloo that lets go of its last tensor just then aborts the process (SIGABRT, seen in 5 of 72 runs of
    two processes): a stage that has all its results would count as one that died.
    """

    status = 1  # that of an exception which nobody caught

    def __init__(self) -> None:
        atexit.register(self._end)  # handlers run in reverse: create this before anything else registers one

    def _end(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(self.status)


if __name__ == "__main__":
    die_with_parent()  # before anything that takes time
    LAST_ACT = LastAct()

import argparse  # noqa: E402
import json  # noqa: E402
import resource  # noqa: E402
import shutil  # noqa: E402
import time  # noqa: E402
import traceback  # noqa: E402
from collections.abc import Callable, Mapping  # noqa: E402
from dataclasses import replace  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from alignflow import collector  # noqa: E402
from alignflow.data import catalogue, errors  # noqa: E402
from alignflow.data.adapters import verify_model  # noqa: E402
from alignflow.data.engine_hosts import end_idle_hosts  # noqa: E402
from alignflow.data.errors import AlignflowError, StageError, StoreError  # noqa: E402
from alignflow.data.run import Run, Runtime, Share, write_whole  # noqa: E402
from alignflow.data.without_torch import leave_torch_out  # noqa: E402

SETTINGS = {
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    # Threads that wait for work must not spin: with another process on the same cores a stage took 15 times as long.
    "OMP_WAIT_POLICY": "PASSIVE",
    "THP_MEM_ALLOC_ENABLE": "1",  # large tensors on large pages, where Linux allows it: backward passes on a CPU are up to a fifth faster
    "MPLBACKEND": "Agg",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "DS_SKIP_CUDA_CHECK": "1",
}


def main() -> int:
    """Run the body that the file names, or the processes that run it; exit status 0, or that of its error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spec", type=Path)
    parser.add_argument("--node-rank", type=int, default=0)
    given = parser.parse_args()
    spec = json.loads(given.spec.read_text())
    rank = int(os.environ["RANK"]) if "RANK" in os.environ else None
    try:
        runtime = Runtime.model_validate(spec["runtime"]).model_copy(update={"node_rank": given.node_rank})
        prepare_process(runtime)
        if runtime.world_size > 1 and rank is None:
            from alignflow.torchrun import run_processes

            collector.resume()
            return run_processes(given.spec, spec, runtime)
        write_whole(told(given.spec, "result", rank), run_body(spec, runtime, rank or 0))
        return 0
    except BaseException as error:  # noqa: BLE001 (every end must be told to the parent, which acts on it)
        traceback.print_exc()
        known = as_known_error(error, spec["stage"])
        fields = errors.to_json(known)
        write_whole(told(given.spec, "error", rank), fields if rank is None else {"error": fields, "time": time.time()})
        if rank is not None:  # leaving a group in which others wait can take as long as its timeout
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(known.exit_status)
        return known.exit_status


def told(spec_path: Path, what: str, rank: int | None) -> Path:
    """Where a process leaves its result or error: one of several leaves it for torchrun's parent, under its number."""
    return spec_path.with_name(f"{what}.json" if rank is None else f"{what}-{rank:05d}.json")


def run_body(spec: dict[str, Any], runtime: Runtime, rank: int) -> dict[str, Any]:
    """Run the stage's body in this process; what processes other than the first write as payload counts for nothing."""
    started, cpu_started = time.monotonic(), time.process_time()
    out, side = (Path(spec[name]) for name in ("out", "side"))
    if rank > 0:
        out, side = (Path(spec["work"]) / f"process-{rank:05d}" / name for name in ("payload", "side"))
        shutil.rmtree(out.parent, ignore_errors=True)
        for directory in (out, side):
            directory.mkdir(parents=True)
    encoded = Path(spec["encoded"]) if spec.get("encoded") else None
    run = Run(
        out=out,
        side=side,
        work=Path(spec["work"]),
        rows=Path(spec["rows"]),
        runtime=runtime,
        main=rank == 0,
        encoded=encoded,
        shares=spec["share"]["of"] if "share" in spec else 1,
    )
    stage = catalogue.STAGES[spec["stage"]]
    if stage.without_torch:
        leave_torch_out()
    if runtime.device == "cuda" and not stage.generates:
        end_idle_hosts()  # an engine of the stage before keeps the GPU's memory for a while
    config = stage.config.model_validate(spec["config"])
    inputs = {name: as_paths(given) for name, given in spec["inputs"].items()}
    check_inputs(inputs)
    if "share" in spec:  # one of several that fill the row journal, before the stage itself finds all rows there
        share = Share.model_validate(spec["share"])
        metrics = import_body(replace(stage, address=stage.fills))(config, **inputs, run=run, share=share) or {}
    else:
        metrics = import_body(stage)(config, **inputs, run=run)
    return {
        "metrics": metrics,
        "warnings": run.warnings,
        "notes": run.notes,
        "cost": cost(run, started, time.process_time() - cpu_started),
    }


def import_body(stage: catalogue.Stage) -> Callable[..., Any]:
    """The function of a stage. Its imports are this process's heavy ones; after them the garbage collector runs again."""
    body = stage.resolve()
    collector.resume()
    return body


def as_paths(given: str | dict[str, str] | None) -> Path | dict[str, Path] | None:
    """An input as the body takes it: a path, a path for each name where it takes any number, or None."""
    if isinstance(given, dict):
        return {name: Path(path) for name, path in given.items()}
    return Path(given) if given else None


def check_inputs(inputs: Mapping[str, Path | dict[str, Path] | None]) -> None:
    """Hash what the stage takes before it uses it; weights are hashed while they are loaded. Of the processes of one machine the
    first one does it for all.

    Raises:
        DamagedArtifactError: an input's bytes are not those of its manifest.
    """
    if int(os.environ.get("LOCAL_RANK", "0")) == 0:
        paths = [
            path for given in inputs.values() for path in (given.values() if isinstance(given, dict) else (given,))
        ]
        for path in dict.fromkeys(path for path in paths if path):
            verify_model(path)


def prepare_process(runtime: Runtime) -> None:
    """Set threads, determinism and silence before anything heavy is imported."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(runtime.threads)
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    if runtime.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        os.environ["DS_ACCELERATOR"] = "cpu"
    elif runtime.gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = runtime.gpu


def cost(run: Run, started: float, cpu: float) -> dict[str, float | None]:
    """Wall, CPU and GPU seconds, seconds before the first progress, tokens, tokens per second and peak memory in MB of this process."""
    wall = time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    on_gpu = run.runtime.device == "cuda"
    return {
        "wall_s": wall,
        "startup_s": None if run.first_progress is None else run.first_progress - started,
        "cpu_s": cpu,
        "gpu_s": wall if on_gpu else None,
        "tokens": float(run.tokens) if run.tokens else None,
        "rows": float(run.computed),
        "tokens_per_s": run.tokens / wall if run.tokens and wall > 0 else None,
        "peak_memory_mb": peak,
        **run.spent,
    }


def as_known_error(error: BaseException, stage: str) -> AlignflowError:
    """One of our errors for any exception, so that a person reads one clear message."""
    if isinstance(error, AlignflowError):
        return error
    if isinstance(error, OSError) and error.errno in (28, 122):  # ENOSPC, EDQUOT
        return StoreError(
            "the disk is full; nothing was published", where=stage, do="free some space (`alignflow gc`) and run again"
        )
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return StageError(
            f"out of memory: {_first_line(error)}",
            where=stage,
            do="lower engine.micro_batch_tokens or the stage's batch_size, or shorten max_length",
        )
    return StageError(f"{type(error).__name__}: {_first_line(error)}", where=stage, do="the end of the log says where")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0][:300]


if __name__ == "__main__":
    LAST_ACT.status = main()
    sys.exit(LAST_ACT.status)
