"""Generation with vLLM, in a separate process that several stages share: this process never imports vLLM.

The process is leased (`vllm_lease`) and runs `vllm_child.py`. Before use it is verified against the trainer's model.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import AutoConfig, GenerationConfig

from alignflow.data.artifacts import canonical_json, file_digest, text_digest
from alignflow.data.configs.generators import VLLMOptions
from alignflow.data.engine_hosts import engine_directory
from alignflow.data.errors import ModelError
from alignflow.data.host import this_host
from alignflow.data.rendering import load_tokenizer
from alignflow.data.run import Runtime
from alignflow.data.vllm_environment import needed_python, process_environment
from alignflow.models.generation.base import Generation, Sampling, check_lengths
from alignflow.models.generation.transformers_generator import DTYPES, TransformersGenerator, stop_ids
from alignflow.models.generation.verification import Expected, expectations, verify
from alignflow.models.generation.vllm_lease import CHILD, HostGoneError, HostPlan, Lease, tail
from alignflow.models.generation.vllm_weights import copier, root_of, what_to_load, write_live

_SEED_BITS = (1 << 63) - 1
_CPU_BLOCK = 32  # with vLLM's default of 128, coarse prefix sharing makes judging take twice as long
_CPU_BATCH = 4096  # tokens of one forward pass at most
_NAMES = {"fp32": "float32", "bf16": "bfloat16"}

TOO_LONG = "shorten the prompt, or set a smaller max_new_tokens or a larger max_model_len of the engine"


class VLLMGenerator:
    """Samples and scores with vLLM.

    Args:
        path: Directory (or Hub id) of the model and its tokenizer, or of an adapter; weights from a store are verified first.
        runtime: Device, precision and threads.
        options: The engine's options.

    Raises:
        ModelError: there is no environment with vLLM, it does not load the model, or its results differ from the trainer's model's.
    """

    def __init__(self, path: Path, runtime: Runtime, options: VLLMOptions | None = None):
        self._describe(path, runtime, options or VLLMOptions())
        self._private = ""  # name of a process that has a live model's weights and serves only this generator
        self._lease = Lease(self._plan(), self._check)
        self._open()

    @classmethod
    def for_training(cls, path: Path, runtime: Runtime, options: VLLMOptions, longest: int) -> VLLMGenerator:
        """An engine in a private process for a policy in training that was loaded from `path`; the caller of `take` verifies it.

        `longest`: most tokens of prompt and answer together, so that no memory is reserved for more.
        """
        known = min(longest, options.max_model_len or longest)
        engine = cls.__new__(cls)
        engine._describe(path, runtime, options.model_copy(update={"max_model_len": known}))
        engine._be_alone()
        return engine

    def _describe(self, path: Path, runtime: Runtime, options: VLLMOptions) -> None:
        self._path, self._runtime, self._options = Path(path), runtime, options
        self._loaded = what_to_load(path)
        self.tokenizer = load_tokenizer(path)
        self._read_configs()
        self._adapter = self._loaded.adapter
        self._expected: Expected | None = None

    def _read_configs(self) -> None:
        place = root_of(self._loaded.directory)
        config = AutoConfig.from_pretrained(str(place))
        text = config.get_text_config(decoder=True)
        try:
            generation = GenerationConfig.from_pretrained(str(place))
        except OSError:
            generation = GenerationConfig.from_model_config(config)
        self._stop = stop_ids(self.tokenizer, generation)
        known = [self._options.max_model_len, getattr(text, "max_position_embeddings", None)]
        self.context_length: int | None = min((length for length in known if length), default=None)
        # A model may have more rows than its tokenizer has tokens: the extra ones are no text.
        self._allowed = len(self.tokenizer) if len(self.tokenizer) < text.vocab_size else 0

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]) -> list[Generation]:
        """One completion per prompt, in the order of `prompts`; raises ModelError if one does not fit the context."""
        if not prompts:
            return []
        check_lengths(prompts, sampling.max_new_tokens, self.context_length, TOO_LONG)
        rows = self._ask(
            "generate",
            prompts=[list(map(int, prompt)) for prompt in prompts],
            seeds=[seed & _SEED_BITS for seed in seeds],
            stop=self._stop,
            allowed=self._allowed,
            logps=sampling.logps,
            sampling={
                "max_tokens": sampling.max_new_tokens,
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "top_k": sampling.top_k,
            },
        )
        return [_generation(row, sampling) for row in rows]

    def score_options(self, prompts: Sequence[Sequence[int]], options: Sequence[int]) -> list[list[float]]:
        """For each prompt the fp32 log-probabilities of the tokens `options` at the next position, among all tokens."""
        if not prompts:
            return []
        check_lengths(prompts, 0, self.context_length, TOO_LONG)
        return self._ask(
            "score", prompts=[list(map(int, prompt)) for prompt in prompts], options=list(map(int, options))
        )

    def sync(self, model: Any) -> None:
        """Load the weights of `model`, which is in training, into a private process, and compare the two.

        Raises:
            ModelError: vLLM's results differ from the model's, or its process ended: the weights are then lost.
        """
        if not self._private:
            self._lease.close()
            self._be_alone()
        self.take(model)
        trusted = TransformersGenerator.around(model, self.tokenizer, self._runtime)
        verify(
            self, expectations(trusted), self._runtime.precision, f"vLLM {self._lease.version} after loading weights"
        )

    def take(self, model: Any) -> None:
        """Load the weights of a model in training, and drop cached results of earlier ones; not verified here.

        Every process must call it if the model is partitioned (ZeRO 3).

        Raises:
            ModelError: its process ended: the weights are then lost.
        """
        file = engine_directory() / f"{self._plan().name}.weights"
        try:
            write_live(model, file, DTYPES[self._runtime.precision])
            self._ask("load", path=str(file))
        finally:
            file.unlink(missing_ok=True)

    @property
    def version(self) -> str:
        """vLLM's version."""
        return self._lease.version

    def _be_alone(self) -> None:
        """Lease a private process."""
        self._private, self._adapter = uuid.uuid4().hex[:12], None
        self._lease = Lease(self._plan(), lambda lease, started: None)
        self._open()

    def close(self) -> None:
        """End the lease; the process ends if nobody leases it for `idle_s`."""
        self._lease.close()

    @property
    def pid(self) -> int:
        """Id of the process that holds the engine now."""
        return self._lease.pid

    def _plan(self) -> HostPlan:
        loaded, python = self._loaded, needed_python()
        if self._private:
            loaded = replace(loaded, adapter=None, rank=0)
        engine = self._engine(loaded.rank)
        environment = process_environment(
            os.environ, self._runtime.threads, eager=engine["enforce_eager"] and self._runtime.device == "cpu"
        )
        code = [file_digest(CHILD), file_digest(CHILD.parents[2] / "data" / "wire.py")]
        if self._private and self._runtime.device == "cuda" and self._runtime.world_size > 1:
            environment["CUDA_VISIBLE_DEVICES"] = _own_gpu(environment.get("CUDA_VISIBLE_DEVICES", ""))
        gpus = environment.get(
            "CUDA_VISIBLE_DEVICES", ""
        )  # threads and placement are those of the process that starts it
        who = [this_host().id, loaded.digest, str(python), engine, gpus, code, self._private]
        name = text_digest(canonical_json(who))[:20]
        copy = engine_directory() / f"{name}.model"
        source = copier(loaded.directory, copy) if loaded.merged else lambda: loaded.directory
        return HostPlan(name, python, engine, source, environment, 0.0 if self._private else self._options.idle_s)

    def _engine(self, rank: int) -> dict[str, Any]:
        """Arguments of `vllm.LLM`: everything that would depend on the machine is set."""
        options, on_cpu = self._options, self._runtime.device == "cpu"
        chosen: dict[str, Any] = {
            "skip_tokenizer_init": True,
            "generation_config": "vllm",  # otherwise the model's own would change the sampling
            "dtype": _NAMES[self._runtime.precision],
            "enforce_eager": options.enforce_eager,
            "enable_prefix_caching": True,
            "logprobs_mode": "processed_logprobs",  # raw ones ignore temperature, top_p and top_k
            "seed": 0,
            "disable_log_stats": True,
            "use_tqdm_on_load": False,
            "tensor_parallel_size": options.tensor_parallel,
        }
        if self.context_length is not None:
            chosen["max_model_len"] = self.context_length + 1
        if on_cpu:
            # A prompt must not be computed in pieces: vLLM then rewinds the generator of a seeded row, which a CPU generator cannot do.
            whole = max(_CPU_BATCH, chosen.get("max_model_len", 0))
            chosen |= {"enable_chunked_prefill": False, "max_num_batched_tokens": whole}
            chosen |= {"block_size": _CPU_BLOCK, "kv_cache_memory_bytes": int(options.kv_cache_gib * (1 << 30))}
        else:
            chosen["gpu_memory_utilization"] = options.gpu_memory_utilization
        if rank:
            chosen |= {"enable_lora": True, "max_lora_rank": rank, "max_loras": 1}
        return chosen

    def _open(self) -> None:
        self._lease.open(self._expect)
        shutil.rmtree(engine_directory() / f"{self._plan().name}.model", ignore_errors=True)
        print(f"vLLM {self._lease.version} in process {self._lease.pid}, log {self._lease.log}", flush=True)

    def _expect(self) -> None:
        """Compute the trainer's results before vLLM takes the memory."""
        if self._expected is None:
            with contextlib.closing(TransformersGenerator(self._path, self._runtime)) as trusted:
                self._expected = expectations(trusted)

    def _check(self, lease: Lease, started: bool) -> None:
        """Verify a process that is not yet verified for these weights."""
        what = self._adapter[0] if self._adapter else "base"
        if what in lease.verified:
            return
        self._expect()
        assert self._expected is not None
        found = verify(_Unchecked(self, lease), self._expected, self._runtime.precision, f"vLLM {lease.version}")
        lease.mark_verified(what)
        print(
            f"vLLM {lease.version} agrees with the trainer's model: {found.tokens} tokens in {self._runtime.precision}, "
            f"log-probabilities differ by {found.mean:.2g} on average and {found.most:.2g} at most",
            flush=True,
        )

    def _ask(self, op: str, **fields: Any) -> Any:
        """Send a request, and if the process ended meanwhile, once more to another one."""
        fields["adapter"] = self._adapter
        try:
            return self._lease.ask(op, **fields)
        except HostGoneError as error:
            if self._private:
                raise self._gone(
                    error, "the weights that it had loaded are lost: run again from the last checkpoint"
                ) from None
            print(
                f"note: vLLM's process {self._lease.pid} ended during a request ({error}); it is started again",
                flush=True,
            )
        self._open()
        try:
            return self._lease.ask(op, **fields)
        except HostGoneError as error:
            raise self._gone(
                error, "if it ran out of memory, set a smaller batch_size of the stage or kv_cache_gib of the engine"
            ) from None

    def _gone(self, error: Exception, advice: str) -> ModelError:
        return ModelError(
            f"vLLM: {error}",
            where="generator",
            do=f"{advice}; the end of its log ({self._lease.log}):\n{tail(self._plan().name)}",
        )


def _own_gpu(visible: str) -> str:
    """The GPU of this process of several, by its name in CUDA_VISIBLE_DEVICES."""
    number = int(os.environ.get("LOCAL_RANK", "0"))
    return visible.split(",")[number] if visible else str(number)


class _Unchecked(VLLMGenerator):
    """The engine while it is verified: a process that ends now is not started again under the lock."""

    def __init__(self, of: VLLMGenerator, lease: Lease):
        self.__dict__.update(of.__dict__)
        self._lease = lease

    def _ask(self, op: str, **fields: Any) -> Any:
        return self._lease.ask(op, **fields, adapter=self._adapter)


def _generation(row: dict[str, Any], sampling: Sampling) -> Generation:
    ids, ended = row["ids"], row["ended"]
    logps = row["logps"]
    if logps is not None and sampling.temperature == 0:
        logps = [0.0] * len(logps)  # the one token that can be drawn has probability 1
    kept = tuple(ids[:-1] if ended else ids)
    return Generation(kept, ended, ids[-1] if ended else None, None if logps is None else tuple(logps))
