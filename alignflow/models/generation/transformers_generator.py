"""Generation with a Hugging Face model and a decode loop of our own: no row waits for the longest one."""

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
from alignflow.models.generation.base import Generation, Sampling
from alignflow.models.generation.drawing import draw, uniform_streams
from alignflow.models.generation.kv_cache import make_cache

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
# Dropping rows copies the cache: worth it once this share of the batch has finished.
_COMPACT_SHARE = 0.125


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
        """A generator on a model that is loaded and in training, whose weights it shares: no copy is made.

        While it decodes, the model has transformers' own attention, and autocast where training has it.
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
        self._keeps_last = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}
        self.context_length = getattr(self._config, "max_position_embeddings", None)

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]) -> list[Generation]:
        """One completion per prompt, in the order of `prompts`; the whole list is one batch.

        Equal prompts share their prefill. Raises ModelError where prompt and completion exceed the context.
        """
        if not prompts:
            return []
        self._check_lengths(prompts, sampling.max_new_tokens)
        with self._context():
            return self._generate(prompts, sampling, seeds)

    def _generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]) -> list[Generation]:
        unique = sorted({tuple(prompt) for prompt in prompts}, key=lambda ids: (len(ids), ids))
        place = {prompt: index for index, prompt in enumerate(unique)}
        rows = torch.tensor([place[tuple(prompt)] for prompt in prompts], device=self._device)
        ids, mask = self._pad_left(unique)
        cache = make_cache(self._config, sampling.max_new_tokens)
        logits = self._forward(ids, mask, cache)
        if len(unique) < len(prompts) or not torch.equal(rows, torch.arange(len(unique), device=self._device)):
            cache.reorder_cache(rows)
        return self._decode(logits[rows], mask[rows], cache, sampling, uniform_streams(seeds, sampling.max_new_tokens))

    def _decode(
        self, logits: torch.Tensor, mask: torch.Tensor, cache: Any, sampling: Sampling, uniform: torch.Tensor
    ) -> list[Generation]:
        count, limit = len(logits), sampling.max_new_tokens
        made = torch.zeros((count, limit), dtype=torch.long, device=self._device)
        lengths = torch.full((count,), limit, device=self._device)  # tokens before the stop token
        uniform = uniform.to(self._device)
        live = torch.arange(count, device=self._device)  # row of each line of the batch
        running = torch.ones(count, dtype=torch.bool, device=self._device)  # per line of the batch
        for step in range(limit):
            tokens = draw(logits[:, : self._vocabulary], uniform[live, step], sampling)
            made[live, step] = tokens
            stopped = running & torch.isin(tokens, self._stop)
            lengths[live[stopped]] = step
            running = running & ~stopped
            finished = len(live) - int(running.sum())
            if finished == len(live) or step + 1 == limit:
                break
            if finished >= max(1, _COMPACT_SHARE * len(live)):
                kept = running.nonzero()[:, 0]
                cache.reorder_cache(kept)
                live, tokens, mask, running = live[kept], tokens[kept], mask[kept], running[kept]
            mask = torch.cat([mask, mask.new_ones((len(live), 1))], dim=1)
            logits = self._forward(tokens[:, None], mask, cache)
        return [
            Generation(tuple(row[:length]), length < limit, row[length] if length < limit else None)
            for row, length in zip(made.tolist(), lengths.tolist(), strict=True)
        ]

    def score_options(self, prompts: Sequence[Sequence[int]], options: Sequence[int]) -> list[list[float]]:
        """For each prompt the fp32 log-probabilities of the tokens `options` at the next position."""
        self._check_lengths(prompts, 0)
        with self._context():
            return self._score_options(prompts, options)

    def _score_options(self, prompts: Sequence[Sequence[int]], options: Sequence[int]) -> list[list[float]]:
        scores: list[list[float]] = [[] for _ in prompts]
        for batch in self._batches(prompts):
            ids, mask = self._pad_left([prompts[index] for index in batch])
            logits = self._forward(ids, mask, None)
            logps = torch.log_softmax(logits.float(), dim=-1)[:, list(options)]
            for index, row in zip(batch, logps.tolist(), strict=True):
                scores[index] = row
        return scores

    @torch.no_grad()
    def sync(self, model: Any) -> None:
        """Take up the weights of `model`; nothing to do where it is the model that this generator is around."""
        if model is not self._model:
            given = dict(model.named_parameters())
            for name, parameter in self._model.named_parameters():
                parameter.copy_(given[name])

    def close(self) -> None:
        """Give the model's memory back."""
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

    def _pad_left(self, prompts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        width = max(len(prompt) for prompt in prompts)
        ids = torch.zeros((len(prompts), width), dtype=torch.long)
        mask = torch.zeros((len(prompts), width), dtype=torch.long)
        for line, prompt in enumerate(prompts):
            ids[line, width - len(prompt) :] = torch.tensor(prompt)
            mask[line, width - len(prompt) :] = 1
        return ids.to(self._device), mask.to(self._device)

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor, cache: Any) -> torch.Tensor:
        """Logits of the next token, shape (rows, vocabulary); `mask` covers the cached tokens and `ids`."""
        positions = {}
        if self._takes_positions:
            positions = {"position_ids": (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]}
        output = self._model(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=cache is not None,
            **positions,
            **self._keeps_last,
        )
        return output.logits[:, -1]

    def _check_lengths(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> None:
        for index, prompt in enumerate(prompts):
            if not prompt:
                raise ModelError("a prompt without tokens", where=f"row {index}", do="check the chat template")
            if self.context_length is not None and len(prompt) + new_tokens > self.context_length:
                raise ModelError(
                    f"{len(prompt)} prompt tokens and {new_tokens} new ones exceed the context of {self.context_length}",
                    where=f"row {index}",
                    do="shorten the prompt or lower max_new_tokens",
                )


@contextlib.contextmanager
def borrowed(model: Any, runtime: Runtime) -> Iterator[None]:
    """Let a model in training decode: no gradients, transformers' own attention with its cache, and then its own again."""
    mine = model.config._attn_implementation
    model.set_attn_implementation("sdpa" if getattr(model, "_supports_sdpa", False) else "eager")
    try:
        # No inference mode: what a model remembers between calls would be of no use to the backward pass.
        with torch.no_grad(), torch.autocast(runtime.device, dtype=torch.bfloat16, enabled=runtime.precision == "bf16"):
            yield
    finally:
        model.set_attn_implementation(mine)


def load_causal_model(path: Path, runtime: Runtime) -> Any:
    """The model at `path` for inference, in the dtype of `runtime.precision`; raises ModelError where it does not load."""
    try:
        model = from_pretrained(AutoModelForCausalLM, path, DTYPES[runtime.precision])
    except (OSError, ValueError) as error:
        raise ModelError(
            f"not a causal language model that can be loaded: {error}",
            where=str(path),
            do="give a Hugging Face directory with config.json and safetensors weights",
        ) from error
    return model.to(runtime.device).eval().requires_grad_(False)


def stop_ids(tokenizer: Any, generation_config: Any) -> list[int]:
    """Tokens that end a completion: the tokenizer's EOS, the ends of turns in its chat template, those of the generation config.

    Raises ModelError for none.
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
