"""vLLM's own environment: where its interpreter is, whether it works, and what a process of it is given. No torch and no vLLM.

It is one of its own because vLLM's pins exclude Prefect's (fastapi) and our transformers'.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from alignflow.data.errors import ModelError

VARIABLE = "ALIGNFLOW_VLLM_PYTHON"
DIRECTORY = ".venv-vllm"
BUILD = f"`make vllm` builds it; {VARIABLE} names an interpreter of your own that has vLLM"
_LOOK_S = 300.0

_PROBE = """
import json, sys
found = {"python": sys.version.split()[0]}
try:
    import torch
    found["torch"] = torch.__version__
    from vllm import LLM
    import vllm
    from vllm.platforms import current_platform
    found["vllm"], found["chip"] = vllm.__version__, current_platform.device_type
except BaseException as error:
    found["error"] = f"{type(error).__name__}: {error}"
print("\\n" + json.dumps(found))
"""
"""`import vllm` alone proves nothing, it is lazy; nor does a package's metadata: the CPU build has another name."""

PASSED = frozenset(
    {
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "LANG",
        "LC_ALL",
        "LC_CTYPE",
        "TZ",
        "TMPDIR",
        "LD_LIBRARY_PATH",
        "CC",
        "CXX",
        "CUDA_HOME",
        "CUDA_PATH",
        "CUDA_VISIBLE_DEVICES",
        "CUDA_DEVICE_ORDER",
        "XDG_CACHE_HOME",
        "HF_HOME",
        "HF_HUB_CACHE",
    }
)
PASSED_PREFIXES = ("NCCL_", "NVIDIA_VISIBLE", "NVIDIA_DRIVER")
SETTINGS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine in the process that we hold, and not in a child of it
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1",  # one token more than the context: that which a scored prompt does not get
    "PYTHONUNBUFFERED": "1",
}
EAGER = {
    "TORCHDYNAMO_DISABLE": "1"
}  # else the first request for log-probabilities compiles a helper, or fails without g++


def vllm_python() -> Path | None:
    """The interpreter that the variable ALIGNFLOW_VLLM_PYTHON names, else that of `make vllm` in this checkout; None where there is neither.

    That it is there does not prove that vLLM works in it: `alignflow env` and the engine's start find that out.
    """
    named = os.environ.get(VARIABLE)
    path = Path(named) if named else Path(__file__).parents[2] / DIRECTORY / "bin" / "python"
    return path if path.exists() else None


@dataclass(frozen=True)
class VLLMEnvironment:
    """What is in vLLM's environment.

    Attributes:
        python: Its interpreter.
        vllm: Version of vLLM; empty where it does not work.
        torch: Version of its torch; empty where it has none.
        chip: What its build computes on: cpu or cuda; empty where it does not work.
        error: Why it does not work; empty where it does.
    """

    python: Path
    vllm: str = ""
    torch: str = ""
    chip: str = ""
    error: str = ""


@cache
def look_into(python: Path) -> VLLMEnvironment:
    """Import vLLM in a process of an interpreter, once: half a minute where nothing is in the file cache."""
    environment = process_environment(os.environ, 1, eager=True)
    try:
        done = subprocess.run(
            [str(python), "-I", "-c", _PROBE], capture_output=True, text=True, timeout=_LOOK_S, env=environment
        )
        found = json.loads(done.stdout.strip().splitlines()[-1])
    except subprocess.TimeoutExpired:
        return VLLMEnvironment(python, error=f"the import did not end within {_LOOK_S:g} s")
    except (OSError, ValueError, IndexError) as error:
        return VLLMEnvironment(python, error=f"the interpreter does not run: {error}"[:300])
    return VLLMEnvironment(
        python, found.get("vllm", ""), found.get("torch", ""), found.get("chip", ""), found.get("error", "")[:300]
    )


def needed_python() -> Path:
    """As `vllm_python`; raises ModelError where there is none."""
    python = vllm_python()
    if python is None:
        named = os.environ.get(VARIABLE)
        what = f"{VARIABLE} names {named}, which is not there" if named else "the engine vllm has no environment yet"
        raise ModelError(what, where="generator", do=BUILD)
    return python


def broken(python: Path, error: str) -> ModelError:
    """The error for an environment in which vLLM does not work, with the usual cause."""
    torchvision = "torchvision" in error or "torchaudio" in error or "torchcodec" in error
    cause = (
        "torchvision, torchaudio or torchcodec of another build are beside torch: vLLM needs none of them, uninstall them, or build it anew"
        if torchvision
        else "build it anew"
    )
    return ModelError(f"vLLM does not work there: {error}", where=str(python), do=f"{cause}: {BUILD}")


def process_environment(environment: Mapping[str, str], threads: int, eager: bool) -> dict[str, str]:
    """All variables of a process of vLLM's: places, languages and chips of ours, its settings, no secret and none of our libraries'.

    Args:
        environment: Of this process.
        threads: CPU threads.
        eager: Whether nothing is compiled.
    """
    passed = {name: value for name, value in environment.items() if name in PASSED or name.startswith(PASSED_PREFIXES)}
    # Threads that wait for each other must not spin: another process on the same cores would stand still.
    threading = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
    return {**passed, **SETTINGS, **(EAGER if eager else {}), **threading}
