"""The environment of a stage's process: variables that its libraries read or its recipe names, and nothing else.

A stage runs library code, a model's own code if the recipe trusts it, and the user's own judge. None of them needs the
login of the Prefect server, cloud keys or tokens of the shell, so they do not get them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from alignflow.data.adapters import find_base, is_adapter
from alignflow.data.configs.variables import never_passed
from alignflow.data.errors import AlignflowError, UserError
from alignflow.data.logins import LOGIN
from alignflow.safe_path import SAFE_PATH, given_path

NAMES = frozenset(
    {
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "LANG",
        "LANGUAGE",
        "TZ",
        "TMPDIR",
        "TEMP",
        "TMP",
        "TERM",
        "COLUMNS",
        "NO_COLOR",
        "LD_LIBRARY_PATH",
        "DYLD_LIBRARY_PATH",
        "DYLD_FALLBACK_LIBRARY_PATH",
        "VIRTUAL_ENV",
        "CONDA_PREFIX",
        "CC",
        "CXX",
        "PYTHONPATH",
        "PYTHONHASHSEED",
        "PYTHONUTF8",
        "PYTHONIOENCODING",
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONPYCACHEPREFIX",
        "PYTHONFAULTHANDLER",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "DO_NOT_TRACK",
        "MPLCONFIGDIR",
        "MPLBACKEND",
        "TOKENIZERS_PARALLELISM",
        "RAYON_NUM_THREADS",
        "THP_MEM_ALLOC_ENABLE",
        "HF_HOME",
        "HF_ENDPOINT",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN",
        "HF_ASSETS_CACHE",
        "HF_XET_CACHE",
        "HF_MODULES_CACHE",
        "HUGGINGFACE_HUB_CACHE",
    }
)
"""Variables that the interpreter, system libraries and our libraries read: paths, locales, certificates."""

PREFIXES = (
    "LC_",
    "XDG_",
    "ALIGNFLOW_",
    "CUDA_",
    "CUBLAS_",
    "CUBLASLT_",
    "CUDNN_",
    "NVIDIA_",
    "NCCL_",
    "GLOO_",
    "UCX_",
    "FI_",
    "RDMAV_",
    "IBV_",
    "HIP_",
    "HSA_",
    "ROCR_",
    "OMP_",
    "KMP_",
    "GOMP_",
    "MKL_",
    "OPENBLAS_",
    "BLIS_",
    "NUMEXPR_",
    "VECLIB_",
    "MALLOC_",
    "ARROW_",
    "TORCH_",
    "TORCHINDUCTOR_",
    "TORCHDYNAMO_",
    "PYTORCH_",
    "TRITON_",
    "DS_",
    "TRANSFORMERS_",
    "HF_HUB_",
    "HF_DATASETS_",
)
"""Prefixes of names: settings of chips, linear algebra, communication, torch and the Hub's client."""

_SECRET = re.compile(
    r"(^|_)((USER|ACCESS|API|AUTH|BEARER|REFRESH|SESSION)?TOKENS?|(API|ACCESS|AUTH|CLIENT|LICEN[CS]E|PRIVATE|SECRET|SIGNING|SSH)?KEYS?|(CLIENT)?SECRETS?"
    r"|PASS|PASSWORDS?|PASSWD|PASSPHRASE|PWD|PW|CRED|CREDS|CREDENTIALS?|AUTH|AUTHORIZATION|BEARER|JWT|LOGIN|COOKIES?|WEBHOOK|DSN|DATABASE|DB"
    r"|(DATABASE|DB)_?UR[IL])(_|$)",
    re.IGNORECASE,
)
"""Words in names of secrets: NVIDIA_API_KEY and ALIGNFLOW_DATABASE have the prefix of a setting. NCCL_IB_PKEY does not match: it is the number of an InfiniBand partition."""

HUB = ("HF_TOKEN", "HF_TOKEN_PATH", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy")
"""Variables that a stage which loads from the Hub gets even if they hold a password: addresses of a proxy or of a mirror of the Hub."""

TORCHRUN = ("ALIGNFLOW_TORCHRUN", "ALIGNFLOW_SUPERVISOR", "ALIGNFLOW_RUN")
"""Variables of another stage's process that a stage started inside it must not inherit."""


def stage_environment(
    environment: Mapping[str, str], named: Iterable[str] = (), hub: bool = False, proxies: bool = False
) -> dict[str, str]:
    """The environment of a stage's process, made from its parent's.

    Args:
        environment: The parent's environment.
        named: Further variables that the recipe names: for the user's own code (`engine.environment`), or the key of an endpoint that
            the stage calls (`api_key_env`).
        hub: Whether the stage's config names something on the Hub. It then gets the Hub's token and the proxies.
        proxies: Whether it calls an endpoint on another machine. It then gets the proxies.

    Raises:
        UserError: the recipe names a variable that is not set, or one that no stage ever gets.
    """
    named = tuple(named)
    for name in named:
        if refused := never_passed(name):
            raise UserError(f"{name} is never passed on: {refused}", where="engine.environment", do="leave it out")
        if name not in environment:
            raise UserError(
                f"{name} is not set",
                where="engine.environment, or api_key_env of an engine",
                do=f"export {name} before you start the run, or leave it out",
            )
    wanted = {*named, *(HUB if hub else ()), *(PROXIES if hub or proxies else ())}
    passed = {name: value for name, value in environment.items() if name in wanted or _is_passed(name, value)}
    if "PYTHONPATH" in passed:
        passed["PYTHONPATH"] = given_path(passed["PYTHONPATH"])
    return {**passed, **SAFE_PATH, "PYTHONUNBUFFERED": "1"}


def withheld(environment: Mapping[str, str], passed: Mapping[str, str]) -> list[str]:
    """Names of the variables that a stage's process did not get."""
    return sorted(set(environment) - set(passed))


def needs_the_hub(components: Mapping[str, object], config: object, inputs: Iterable[Path]) -> bool:
    """Whether a stage may load from the Hub: its key has a Hub id, or it loads an adapter whose base is on the Hub."""
    named = any(isinstance(value, str) and value.startswith("hub:") for value in components.values())
    return named or any(_has_base_on_the_hub(path) for path in (*inputs, *_directories(config)))


def _directories(value: object) -> Iterator[Path]:
    """Every directory that a config names."""
    if isinstance(value, str):
        if os.path.isabs(value) and os.path.isdir(value):
            yield Path(value)
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _directories(item)


def _has_base_on_the_hub(path: Path) -> bool:
    try:
        return is_adapter(path) and not isinstance(find_base(path), Path)
    except (AlignflowError, OSError, ValueError):  # the stage itself reports it
        return False


def _is_passed(name: str, value: str) -> bool:
    if name in TORCHRUN or never_passed(name) or LOGIN.search(value):
        return False
    return name in NAMES or (name.startswith(PREFIXES) and not _SECRET.search(name))
