"""The door for processes: runs one stage body from a JSON file, and leaves result.json or error.json beside it.

`python -m alignflow.worker SPEC.json`. It needs no Prefect. Everything printed goes to the stage's log file.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from alignflow.data import catalogue, errors
from alignflow.data.errors import AlignflowError, StageError, StoreError
from alignflow.data.run import Run, Runtime

SETTINGS = {
    "TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error",
    # Threads that wait for work must not spin: with another process on the same cores a stage took 15 times as long.
    "OMP_WAIT_POLICY": "PASSIVE", "MPLBACKEND": "Agg", "CUBLAS_WORKSPACE_CONFIG": ":4096:8", "DS_SKIP_CUDA_CHECK": "1",
}  # fmt: skip


def main() -> int:
    """Run the body that the file names; exit status 0, or that of its error."""
    die_with_parent()
    spec_path = Path(sys.argv[1])
    spec = json.loads(spec_path.read_text())
    started, cpu_started = time.monotonic(), time.process_time()
    try:
        run = Run(
            out=Path(spec["out"]), side=Path(spec["side"]), work=Path(spec["work"]), rows=Path(spec["rows"]),
            runtime=Runtime.model_validate(spec["runtime"]),
        )  # fmt: skip
        prepare_process(run.runtime)
        stage = catalogue.STAGES[spec["stage"]]
        config = stage.config.model_validate(spec["config"])
        inputs = {name: Path(path) if path else None for name, path in spec["inputs"].items()}
        metrics = stage.resolve()(config, **inputs, run=run)
        wall = time.monotonic() - started
        result = {"metrics": metrics, "warnings": run.warnings, "cost": cost(run, wall, time.process_time() - cpu_started)}
        write_whole(spec_path.with_name("result.json"), result)
        return 0
    except BaseException as error:  # noqa: BLE001 (every end must be told to the parent, which acts on it)
        traceback.print_exc()
        known = as_known_error(error, spec["stage"])
        write_whole(spec_path.with_name("error.json"), errors.to_json(known))
        return known.exit_status


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the supervisor dies (Linux; elsewhere the closed pipe alone does it)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def prepare_process(runtime: Runtime) -> None:
    """Set threads, determinism and silence before anything heavy is imported."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(runtime.threads)
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    if runtime.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        os.environ["DS_ACCELERATOR"] = "cpu"


def cost(run: Run, wall: float, cpu: float) -> dict[str, float | None]:
    """Wall, CPU and GPU seconds, tokens, tokens per second and peak memory in MB of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    on_gpu = run.runtime.device == "cuda"
    return {
        "wall_s": wall, "cpu_s": cpu, "gpu_s": wall if on_gpu else None, "tokens": float(run.tokens) if run.tokens else None,
        "tokens_per_s": run.tokens / wall if run.tokens and wall > 0 else None, "peak_memory_mb": peak,
    }  # fmt: skip


def as_known_error(error: BaseException, stage: str) -> AlignflowError:
    """One of our errors for any exception, so that a person reads one clear message."""
    if isinstance(error, AlignflowError):
        return error
    if isinstance(error, OSError) and error.errno in (28, 122):  # ENOSPC, EDQUOT
        return StoreError("the disk is full; nothing was published", where=stage, do="free some space (`alignflow gc`) and run again")
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return StageError(
            f"out of memory: {_first_line(error)}", where=stage,
            do="lower engine.micro_batch_tokens or the stage's batch_size, or shorten max_length",
        )  # fmt: skip
    return StageError(f"{type(error).__name__}: {_first_line(error)}", where=stage, do="the end of the log says where")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0][:300]


def write_whole(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees all of it or nothing."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value))
    os.replace(temporary, path)


if __name__ == "__main__":
    sys.exit(main())
