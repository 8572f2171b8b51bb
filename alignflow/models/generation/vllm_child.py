"""vLLM's process: holds one engine and serves it on a Unix socket, to one request at a time, as long as it is leased.

Run by path, by the interpreter of vLLM's environment, which has no alignflow: `python -I vllm_child.py < settings.json`.
It imports only the standard library and vLLM. vLLM re-seeds random numbers, initialises torch.distributed and changes the
environment, which is harmless in a separate process. Never imported by a trainer or the orchestrator.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import queue
import select
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

MOST_OPTIONS = 128  # vLLM's own limit of logprob_token_ids in one request
POLL_S = 0.2


def _load_wire() -> Any:
    spec = importlib.util.spec_from_file_location("alignflow_wire", Path(__file__).parents[2] / "data" / "wire.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


wire = _load_wire()


class TakesWeights:
    """An extension of vLLM's worker: loads weights from a safetensors file with the checkpoint's names."""

    def take_weights(self, path: str) -> bool:
        """Load, and repack a tied head: on a CPU it has a packed copy of the embeddings, which vLLM's reload does not update."""
        from safetensors.torch import load_file

        worker: Any = self
        worker.reload_weights(weights_iterator=list(load_file(path).items()))
        model, config = worker.model_runner.get_model(), worker.model_runner.model_config.hf_text_config
        head: Any = getattr(model, "lm_head", None)
        if getattr(config, "tie_word_embeddings", False) and hasattr(head, "quant_method"):
            head.quant_method.process_weights_after_loading(head)
        return True


class Engine:
    """vLLM's offline engine with the operations of the protocol, all in the main thread."""

    def __init__(self, settings: dict[str, Any]):
        import vllm
        from vllm import LLM

        sys.modules["vllm_child"] = sys.modules["__main__"]  # where vLLM looks for the class
        self.version = vllm.__version__
        self._llm = LLM(**settings, worker_extension_cls="vllm_child.TakesWeights")
        self._adapters: dict[str, int] = {}

    def generate(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """Completions with their stop token, whether it ended them, and log-probabilities if they are asked for."""
        from vllm import SamplingParams

        shared = dict(request["sampling"], detokenize=False, ignore_eos=True, stop_token_ids=request["stop"])
        if request["logps"]:
            shared["logprobs"] = 0
        if request["allowed"]:  # a model with more rows than its tokenizer has tokens
            shared["allowed_token_ids"] = list(range(request["allowed"]))
        made = self._run(request, [SamplingParams(**shared, seed=seed) for seed in request["seeds"]])
        return [
            {
                "ids": list(row.token_ids),
                "ended": row.finish_reason == "stop",
                "logps": [step[token].logprob for step, token in zip(row.logprobs, row.token_ids)]  # noqa: B905
                if request["logps"]
                else None,
            }
            for row in made
        ]

    def score(self, request: dict[str, Any]) -> list[list[float]]:
        """Log-probabilities of the options among all tokens at the next position."""
        from vllm import SamplingParams

        options, scores = request["options"], [[] for _ in request["prompts"]]  # type: ignore[var-annotated]
        for start in range(0, len(options), MOST_OPTIONS):
            some = options[start : start + MOST_OPTIONS]
            sampling = SamplingParams(
                temperature=0, max_tokens=1, detokenize=False, ignore_eos=True, logprob_token_ids=some
            )
            made = self._run(request, [sampling] * len(request["prompts"]))
            for row, found in zip(scores, made):  # noqa: B905
                row.extend(found.logprobs[0][token].logprob for token in some)
        return scores

    def load(self, request: dict[str, Any]) -> bool:
        """Load weights, and drop the prefix cache of the earlier ones: it would give wrong answers silently."""
        self._llm.collective_rpc("take_weights", kwargs={"path": request["path"]})
        if not self._llm.reset_prefix_cache():
            raise RuntimeError("vLLM did not reset its prefix cache, which has results of the earlier weights")
        return True

    def _run(self, request: dict[str, Any], sampling: list[Any]) -> list[Any]:
        prompts = [{"prompt_token_ids": ids} for ids in request["prompts"]]
        made = self._llm.generate(prompts, sampling, use_tqdm=False, lora_request=self._adapter(request.get("adapter")))
        return [found.outputs[0] for found in made]

    def _adapter(self, adapter: list[str] | None) -> Any:
        if not adapter:
            return None
        from vllm.lora.request import LoRARequest

        digest, path = adapter
        number = self._adapters.setdefault(digest, len(self._adapters) + 1)
        return LoRARequest(f"adapter-{number}", number, path)


class Host:
    """Leases: which runs use the engine, whether any still does, and the queue of their requests."""

    def __init__(self, path: str, idle_s: float, first: int):
        self._path, self._idle_s = path, idle_s
        self._runs: dict[int, int] = {}  # process of a run -> an open file that becomes readable when it ends
        self._clients = 0
        self._jobs: queue.Queue[tuple[dict[str, Any], queue.Queue[dict[str, Any]]]] = queue.Queue()
        self._waiting = 0  # requests that are queued or running
        self._verified: list[str] = []
        self._busy_until = time.monotonic()
        self._ready = False
        self._change = threading.Lock()
        self._lease(first)
        threading.Thread(target=self._watch, daemon=True).start()

    def serve(self, engine: Engine) -> None:
        """Serve requests until `_watch` ends the process."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{self._path}.new")
        os.chmod(f"{self._path}.new", 0o600)
        listener.listen(64)
        with self._change:
            self._ready, self._busy_until = True, time.monotonic()
        os.replace(f"{self._path}.new", self._path)  # clients find it only when it can answer
        threading.Thread(target=self._accept, args=(listener, engine), daemon=True).start()
        while True:
            request, reply = self._jobs.get()
            reply.put(self._answer(engine, request))

    def _answer(self, engine: Engine, request: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"found": getattr(engine, request["op"])(request)}
        except (
            ValueError,
            TypeError,
        ) as error:  # vLLM refuses a request or a setting: the engine still works
            return {"error": f"{type(error).__name__}: {error}"}
        except Exception as error:  # noqa: BLE001 (an engine that failed once may answer wrongly: the client starts another)
            print(f"the engine failed: {error!r}", file=sys.stderr, flush=True)
            os._exit(1)

    def _accept(self, listener: socket.socket, engine: Engine) -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=self._client, args=(connection, engine), daemon=True).start()

    def _client(self, connection: socket.socket, engine: Engine) -> None:
        leased = False
        try:
            while (request := wire.receive(connection)) is not None:
                if request["op"] == "lease":
                    leased = leased or self._join(int(request["run"]), float(request["idle_s"]))
                    answer: dict[str, Any] = {
                        "pid": os.getpid(),
                        "version": engine.version,
                        "verified": self._verified,
                    }
                elif request["op"] == "verified":
                    self._verified = [*self._verified, request["what"]]
                    answer = {}
                elif request["op"] == "yield":
                    answer = {"pid": os.getpid(), "ends": not self._clients and not self._waiting}
                else:
                    answer = self._queued(request)
                wire.send(connection, answer)
                if request["op"] == "yield" and answer["ends"]:
                    self._end("its memory is needed")
        except (OSError, KeyError, ValueError) as error:
            print(f"a connection ended: {error!r}", file=sys.stderr, flush=True)
        finally:
            connection.close()
            with self._change:
                self._clients -= leased
                self._busy_until = time.monotonic()

    def _queued(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["op"] not in ("generate", "score", "load"):
            return {"error": f"no such operation: {request['op']!r}"}
        reply: queue.Queue[dict[str, Any]] = queue.Queue()
        with self._change:
            self._waiting += 1
        try:
            self._jobs.put((request, reply))
            return reply.get()
        finally:
            with self._change:
                self._waiting -= 1
                self._busy_until = time.monotonic()

    def _join(self, run: int, idle_s: float) -> bool:
        with self._change:
            self._clients += 1
            self._idle_s = idle_s
        self._lease(run)
        return True

    def _lease(self, run: int) -> None:
        with self._change, contextlib.suppress(ProcessLookupError):
            if run not in self._runs:
                self._runs[run] = os.pidfd_open(run)

    def _watch(self) -> None:
        """End at once when the runs that leased the engine have ended, even during a request; otherwise when idle for long."""
        while True:
            with self._change:
                files = {file: run for run, file in self._runs.items()}
            gone, _, _ = select.select(list(files), [], [], POLL_S)
            with self._change:
                for file in gone:
                    del self._runs[files[file]]
                    os.close(file)
                idle = self._ready and not self._clients and not self._waiting
                over = idle and time.monotonic() - self._busy_until > self._idle_s
                alone = not self._runs
            if alone or over:
                self._end("the runs that leased it are gone" if alone else f"idle for {self._idle_s:g} s")

    def _end(self, why: str) -> None:
        for path in (self._path, f"{self._path}.new"):
            with contextlib.suppress(OSError):
                os.unlink(path)
        print(f"ends: {why}", file=sys.stderr, flush=True)
        os._exit(0)


def main() -> None:
    """Load the engine that the settings describe, and serve it."""
    settings = json.load(sys.stdin)
    host = Host(settings["socket"], settings["idle_s"], settings["run"])
    host.serve(Engine(settings["engine"]))


if __name__ == "__main__":
    main()
