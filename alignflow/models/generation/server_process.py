"""vLLM's OpenAI server, started for one stage and ended with it, however the stage ends."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from alignflow.data.adapters import is_adapter
from alignflow.data.chat_templates import asks_for_date, with_date
from alignflow.data.configs.server import ServeOptions
from alignflow.data.errors import ModelError, RecipeError, UserError
from alignflow.data.run import Run
from alignflow.data.vllm_environment import VARIABLE, vllm_python

NAME = "served"
GRACE_S = 10.0  # vLLM ends within 3 s of SIGTERM
MOST_RESTARTS = 3
_POLL_S = 0.5
_DATE = datetime(2025, 1, 1)
SUPERVISOR = Path(__file__).parents[2] / "tasks" / "launch" / "supervise.py"
_KEPT = ("PATH", "HOME", "USER", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "HF_HOME", "CC", "CXX", "XDG_CACHE_HOME")
_KEPT_STARTS = ("LC_", "CUDA_", "NVIDIA_", "NCCL_")
_SETTINGS = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # two processes instead of three
    "TORCHDYNAMO_DISABLE": "1",  # log-probabilities would compile a helper at the first request, and need a compiler
}
_NEUTRAL = '{"temperature":1.0,"top_p":1.0,"top_k":0,"min_p":0.0,"repetition_penalty":1.0}'
"""The model's own generation config would change the sampling of the recipe."""


class ServerProcess:
    """vLLM's server on the loopback, behind a random key, in a separate session that the supervisor ends.

    The supervisor holds a pipe from this process: when this process ends, however it does, the server's whole group is ended. vLLM
    has child processes that a signal to the server alone would not end.

    Attributes:
        url: Its address.
        key: Its key; it is only in the server's environment.
        log: File of its output.
    """

    def __init__(self, model: Path, options: ServeOptions, run: Run):
        self.key = secrets.token_urlsafe(24)
        self.log = run.side / f"server-{secrets.token_hex(3)}.log"
        self._options, self._run, self._port = options, run, options.port or _free_port()
        self.url = f"http://127.0.0.1:{self._port}/v1"
        self._lock, self._starts = threading.Lock(), 0
        python = vllm_python()
        if python is None:
            raise UserError(
                "the recipe asks for vLLM's server, and vLLM is not installed",
                where="generator.options.serve",
                do=f"run `make vllm`, or set {VARIABLE} to an interpreter that has it",
            )
        server = [str(python), "-m", "vllm.entrypoints.openai.api_server", *_arguments(model, options, run, self._port)]
        self._command = [sys.executable, "-I", "-S", str(SUPERVISOR), str(GRACE_S), *server]
        self._start()

    def revive(self) -> None:
        """Start it again if it has ended; raises ModelError the fourth time."""
        with self._lock:
            if self.ended:
                if self._starts > MOST_RESTARTS:
                    raise ModelError(
                        f"vLLM's server ended {self._starts} times",
                        where="generator.options.serve",
                        do=f"all received replies are kept; the end of its log:\n{self.last_words()}",
                    )
                self._run.note(f"vLLM's server ended with status {self._process.returncode}: it is started again")
                self.close()
                self._start()

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def close(self) -> None:
        """End it and all its children, and wait for that."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(GRACE_S + 10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _start(self) -> None:
        _check_port(self._port)
        self._starts += 1
        with open(self.log, "a") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=server_environment(os.environ, self._run, self._options, self.key),
            )
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def _wait(self) -> None:
        """Wait until it answers: poll its health and check that it is alive."""
        started = time.monotonic()
        self._run.note(f"vLLM's server starts on port {self._port}; its log is {self.log.name} of this step")
        while not self._is_healthy():
            if self.ended:
                raise ModelError(
                    f"vLLM's server ended with status {self._process.returncode} before it answered",
                    where="generator.options.serve",
                    do=f"the end of its log:\n{self.last_words()}",
                )
            if time.monotonic() - started > self._options.start_timeout_s:
                raise ModelError(
                    f"vLLM's server did not answer within {self._options.start_timeout_s:g} s",
                    where="generator.options.serve",
                    do=f"set serve.start_timeout_s to a larger value; the end of its log:\n{self.last_words()}",
                )
            time.sleep(_POLL_S)
        self._run.note(f"vLLM's server answers after {time.monotonic() - started:.0f} s")

    def _is_healthy(self) -> bool:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://127.0.0.1:{self._port}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def last_words(self, lines: int = 8) -> str:
        """The end of its log."""
        with contextlib.suppress(OSError):
            found = self.log.read_text(errors="replace").replace(self.key, "***").splitlines()[-lines:]
            return "\n".join(f"    {line[:300]}" for line in found)
        return ""


def server_environment(environment: Mapping[str, str], run: Run, options: ServeOptions, key: str) -> dict[str, str]:
    """The environment of the server: no secrets or network settings of the stage, and the server's key, which a command line would show."""
    kept = {name: value for name, value in environment.items() if name in _KEPT or name.startswith(_KEPT_STARTS)}
    threads = str(run.runtime.threads)
    cpu = {"VLLM_CPU_KVCACHE_SPACE": str(options.kv_cache_gib)} if run.runtime.device == "cpu" else {}
    return {**kept, **_SETTINGS, **cpu, "OMP_NUM_THREADS": threads, "VLLM_API_KEY": key, "PYTHONUNBUFFERED": "1"}


def local_directory(path: Path) -> Path:
    """The directory of a model, fetched from the Hub if it is a Hub id; raises ModelError for an adapter."""
    if not path.is_dir():
        from huggingface_hub import snapshot_download

        path = Path(snapshot_download(str(path), ignore_patterns=["*.bin", "*.pth", "*.gguf", "*.onnx"]))
    if is_adapter(path):
        raise ModelError(
            "the model is an adapter, which vLLM's server cannot serve without its base",
            where="generator.options.serve",
            do="merge it into its base (`merge` in the recipe), or use the engine vllm or transformers",
        )
    return path


def dated_template(model: Path, run: Run) -> list[str]:
    """Arguments for a chat template with a fixed date, if the model's own writes today's: questions must not change every day."""
    text: Any = ""
    with contextlib.suppress(OSError, ValueError):
        file = model / "chat_template.jinja"
        settings = {} if file.exists() else json.loads((model / "tokenizer_config.json").read_text())
        text = file.read_text(encoding="utf-8") if file.exists() else settings.get("chat_template", "")
    if not isinstance(text, str) or not asks_for_date(text):
        return []
    run.warn(f"the served model's chat template writes today's date: {_DATE:%Y-%m-%d} is used instead")
    path = run.work / "served-template.jinja"
    path.write_text(with_date(text, _DATE), encoding="utf-8")
    return ["--chat-template", str(path)]


def _arguments(model: Path, options: ServeOptions, run: Run, port: int) -> list[str]:
    dtype = "float32" if run.runtime.precision == "fp32" else "bfloat16"
    arguments = ["--model", str(model), "--served-model-name", NAME, "--host", "127.0.0.1", "--port", str(port)]
    arguments += ["--dtype", dtype, "--seed", "0", "--max-logprobs", "64", "--override-generation-config", _NEUTRAL]
    arguments += dated_template(model, run)
    if options.max_model_len is not None:
        arguments += ["--max-model-len", str(options.max_model_len)]
    if run.runtime.device == "cpu":
        return [*arguments, "--enforce-eager", "--block-size", "32"]
    return [*arguments, "--gpu-memory-utilization", str(options.gpu_memory_utilization)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _check_port(port: int) -> None:
    """Check the port now: vLLM tries it only after half a minute of imports."""
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    except OSError as error:
        raise RecipeError(
            f"port {port} cannot be used ({error.strerror})",
            where="generator.options.serve.port",
            do="remove it: a free port is then chosen",
        ) from None
