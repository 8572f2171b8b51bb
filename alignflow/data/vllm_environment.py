"""Where the interpreter is that has vLLM: an environment of its own, because its pins and Prefect's exclude each other."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "ALIGNFLOW_VLLM_PYTHON"
DIRECTORY = ".venv-vllm"


def vllm_python() -> Path | None:
    """The interpreter that the variable ALIGNFLOW_VLLM_PYTHON names, else that of `make vllm` in this checkout; None where there is neither.

    That it is there does not prove that vLLM works in it: `alignflow env` and the engine's start find that out.
    """
    named = os.environ.get(VARIABLE)
    path = Path(named) if named else Path(__file__).parents[2] / DIRECTORY / "bin" / "python"
    return path if path.exists() else None
