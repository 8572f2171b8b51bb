"""Generation with a Hugging Face model and our own decode loop: no row waits for the longest one."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from alignflow.data.artifacts import verify_files
from alignflow.data.configs.options import NoOptions
from alignflow.data.errors import ModelError
from alignflow.data.rendering import load_tokenizer
from alignflow.data.run import Runtime
from alignflow.data.template_turns import end_tokens
from alignflow.models.adapters import from_pretrained
from alignflow.models.attention import packing
from alignflow.models.generation.base import Generation, Sampling, check_lengths
from alignflow.models.generation.decoding import Decoding, pad_left
from alignflow.models.generation.drawing import uniform_streams
from alignflow.models.generation.kv_cache import make_cache
from alignflow.models.generation.prompt_tree import computes_trees, grow, last_logits, tree_batches

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
LINES = 64
"""Rows that decode together: more do not help a CPU, and their cache takes memory on every device."""
_TREE_BATCHES = 4  # micro-batches of a training step that scoring computes at once, since it keeps no activations

TOO_LONG = "shorten the prompt, or set max_new_tokens to a smaller value"


class TransformersGenerator:
    """Samples and scores with a causal language model of transformers.

    Args:
        path: Directory (or Hub id) of the model and its tokenizer; weights from a store are verified first.
        runtime: Device, precision and the tokens of one forward pass.
    """

    def __init__(self, path: Path, runtime: Runtime, options: NoOptions | None = None):
        verify_files(Path(path))
        self._take(load_causal_model(path, runtime), load_tokenizer(path), runtime)
        self._context: Callable[[], contextlib.AbstractContextManager[Any]] = torch.inference_mode

    @classmethod
    def around(cls, model: Any, tokenizer: Any, runtime: Runtime) -> TransformersGenerator:
        """A generator on a model that is loaded and in training, whose weights it shares without a copy.

        While it decodes, the model has transformers' own attention, and autocast if training uses it.
        """
        generator = cls.__new__(cls)
        generator._take(model, tokenizer, runtime)
        generator._context = lambda: borrowed(model, runtime)
        return generator

    def _take(self, model: Any, tokenizer: Any, runtime: Runtime) -> None:
        self.tokenizer, self._model = tokenizer, model
        self._device = torch.device(runtime.device)
        self._micro_batch_tokens = runtime.micro_batch_tokens
        self._config = self._model.config.get_text_config(decoder=True)
        self._vocabulary = min(len(self.tokenizer), self._config.vocab_size)
        self._stop = torch.tensor(stop_ids(self.tokenizer, self._model.generation_config), device=self._device)
        accepted = inspect.signature(self._model.forward).parameters
        self._takes_positions = "position_ids" in accepted
        self._takes_last = "logits_to_keep" in accepted
        self._in_trees: bool | None = None  # whether the model scores prompts as trees; tested on the first ones
        self.context_length = getattr(self._config, "max_position_embeddings", None)

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]) -> list[Generation]:
        """One completion per prompt, in the order of `prompts`; a waiting prompt takes the place of a row that has ended.

        Equal prompts share their prefill. Raises ModelError if prompt and completion exceed the context.
        """
        if not prompts:
            return []
        check_lengths(prompts, sampling.max_new_tokens, self.context_length, TOO_LONG)
        with self._context():
            return self._generate(prompts, sampling, seeds)

    def _generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]) -> list[Generation]:
        return Decoding(
            [tuple(prompt) for prompt in prompts],
            uniform_streams(seeds, sampling.max_new_tokens),
            sampling,
            forward=lambda *arguments: self._forward(*arguments)[:, : self._vocabulary],
            new_cache=lambda room: make_cache(self._config, room),
            stop=self._stop,
            lines=LINES,
            tokens=self._micro_batch_tokens,
        ).run()

    def score_options(self, prompts: Sequence[Sequence[int]], options: Sequence[int]) -> list[list[float]]:
        """For each prompt the fp32 log-probabilities of the tokens `options` at the next position."""
        check_lengths(prompts, 0, self.context_length, TOO_LONG)
        with self._context():
            return self._score_options(prompts, options)

    def _score_options(self, prompts: Sequence[Sequence[int]], options: Sequence[int]) -> list[list[float]]:
        if self._in_trees is None and prompts:
            self._in_trees = computes_trees(self._model, self._takes_last)
        scores: list[list[float]] = [[] for _ in prompts]
        asked = [tuple(prompt) for prompt in prompts]
        batches = (
            tree_batches(asked, _TREE_BATCHES * self._micro_batch_tokens) if self._in_trees else self._batches(asked)
        )
        with packing(self._model) if self._in_trees else contextlib.nullcontext():
            for batch in batches:
                logits = self._last_logits([asked[index] for index in batch])
                logps = torch.log_softmax(logits.float(), dim=-1)[:, list(options)]
                for index, row in zip(batch, logps.tolist(), strict=True):
                    scores[index] = row
        return scores

    def _last_logits(self, prompts: Sequence[tuple[int, ...]]) -> torch.Tensor:
        """Logits after each prompt, (prompts, vocabulary)."""
        if self._in_trees:
            return last_logits(self._model, grow(prompts, self._device), self._takes_last)
        ids, mask = pad_left(prompts, self._device)
        return self._forward(ids, mask, (mask.cumsum(dim=1) - 1).clamp(min=0), None)

    @torch.no_grad()
    def sync(self, model: Any) -> None:
        """Load the weights of `model`; does nothing if this generator already runs that model."""
        if model is not self._model:
            given = dict(model.named_parameters())
            for name, parameter in self._model.named_parameters():
                parameter.copy_(given[name])

    def close(self) -> None:
        """Free the model's memory."""
        self._model = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _batches(self, prompts: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """Indices of prompts of similar length, at most the micro-batch's tokens (padding included) together."""
        batch: list[int] = []
        for index in sorted(range(len(prompts)), key=lambda index: (len(prompts[index]), index)):
            if batch and (len(batch) + 1) * len(prompts[index]) > self._micro_batch_tokens:
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Any) -> torch.Tensor:
        """Logits of the next token, shape (rows, vocabulary); `mask` covers the cached tokens and `ids`."""
        arguments = {"position_ids": positions} if self._takes_positions else {}
        if self._takes_last:
            arguments["logits_to_keep"] = 1
        output = self._model(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=cache is not None,
            **arguments,
        )
        return output.logits[:, -1]


@contextlib.contextmanager
def borrowed(model: Any, runtime: Runtime) -> Iterator[None]:
    """A context in which a model in training decodes: without gradients, with transformers' attention and cache."""
    mine = model.config._attn_implementation
    model.set_attn_implementation("sdpa" if getattr(model, "_supports_sdpa", False) else "eager")
    try:
        # No inference mode: tensors that a model caches between calls could then not be used in a backward pass.
        with torch.no_grad(), torch.autocast(runtime.device, dtype=torch.bfloat16, enabled=runtime.precision == "bf16"):
            yield
    finally:
        model.set_attn_implementation(mine)


def load_causal_model(path: Path, runtime: Runtime) -> Any:
    """The model at `path` for inference, in the dtype of `runtime.precision`; raises ModelError if it does not load."""
    try:
        model = from_pretrained(AutoModelForCausalLM, path, DTYPES[runtime.precision])
    except (OSError, ValueError) as error:
        raise ModelError(
            f"not a causal language model that can be loaded: {error}",
            where=str(path),
            do="use a Hugging Face directory with config.json and safetensors weights",
        ) from error
    return model.to(runtime.device).eval().requires_grad_(False)


def stop_ids(tokenizer: Any, generation_config: Any) -> list[int]:
    """Tokens that end a completion: the tokenizer's EOS, the ends of turns in its chat template, those of the generation config.

    Raises ModelError if there are none.
    """
    configured = getattr(generation_config, "eos_token_id", None)
    ids = {*(configured if isinstance(configured, list | tuple) else [configured]), tokenizer.eos_token_id}
    if tokenizer.eos_token_id is not None:
        ids.update(end_tokens(tokenizer))
    ids.discard(None)
    if not ids:
        raise ModelError(
            "neither tokenizer nor generation config has an EOS token", do="set eos_token in the tokenizer"
        )
    return sorted(ids)
