"""Which environment variables no stage's process is ever given, whatever a recipe names."""

from __future__ import annotations

_RUNS_CODE = frozenset(
    {
        "LD_PRELOAD",
        "LD_AUDIT",
        "DYLD_INSERT_LIBRARIES",
        "DYLD_LIBRARY_INJECTION",
        "PYTHONSTARTUP",
        "PYTHONHOME",
        "PYTHONINSPECT",
        "PYTHONBREAKPOINT",
        "PYTHONWARNINGS",
        "PYTHONEXECUTABLE",
        "PYTHONPLATLIBDIR",
        "PYTHONUSERBASE",
        "BASH_ENV",
        "ENV",
        "PERL5OPT",
        "PERL5LIB",
        "RUBYOPT",
        "NODE_OPTIONS",
        "JAVA_TOOL_OPTIONS",
        "CUDA_INJECTION64_PATH",
        "CUDA_INJECTION32_PATH",
        "NVTX_INJECTION64_PATH",
        "NVTX_INJECTION32_PATH",
        "GCONV_PATH",
        "IFS",
    }
)
_LAUNCHER = frozenset(
    {
        "RANK",
        "WORLD_SIZE",
        "LOCAL_RANK",
        "LOCAL_WORLD_SIZE",
        "GROUP_RANK",
        "ROLE_RANK",
        "ROLE_WORLD_SIZE",
        "MASTER_ADDR",
        "MASTER_PORT",
        "ALIGNFLOW_TORCHRUN",
        "ALIGNFLOW_SUPERVISOR",
        "ALIGNFLOW_RUN",
        "PYTHONSAFEPATH",
    }
)


def never_passed(name: str) -> str:
    """Why a stage's process never gets the variable `name`; empty where it may."""
    if name in _RUNS_CODE:
        return "it makes programs load or run other code"
    if name.startswith("PREFECT_"):
        return "it belongs to the Prefect server and its clients, and may hold their login"
    if name in _LAUNCHER or name.startswith(("TORCHELASTIC_", "OMPI_", "PMI_")):
        return "alignflow or torchrun sets it for each process"
    return ""
