"""A causal language model that computes the probability of completions; losses never see its logits."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from alignflow.data.adapters import is_adapter
from alignflow.data.artifacts import verify_files
from alignflow.data.catalogue import suggest
from alignflow.data.configs.training import TrainingConfig
from alignflow.data.errors import ModelError
from alignflow.data.rendering import load_tokenizer
from alignflow.data.run import Runtime
from alignflow.models import attention
from alignflow.models.adapters import Adapter, add_adapter, from_pretrained
from alignflow.models.backbone import hidden_states, trial_rows, without_dropout
from alignflow.models.batching import EncodedRow, Packed, pack, row_micro_batches
from alignflow.models.embedding_noise import MakeNoise
from alignflow.models.engines.base import share_out_frozen
from alignflow.models.frozen_weights import keep_in_bf16
from alignflow.models.head import Head, Reference, Request, head_statistics, product, scaling_of
from alignflow.models.in_step import in_step
from alignflow.models.loading import load_model
from alignflow.models.token_statistics import STATISTICS, TokenStatistics


class Policy:
    """A model, its tokenizer, and its runtime.

    Args:
        model: A causal language model of transformers, on its device, in fp32.
        tokenizer: Its tokenizer.
        runtime: Precision: `bf16` multiplies in bf16 over fp32 weights; log-probabilities are fp32 either way.
    """

    def __init__(self, model: Any, tokenizer: Any, runtime: Runtime):
        self.model, self.tokenizer, self.runtime = model, tokenizer, runtime
        self.adapter: Adapter | None = None
        self._head_is_known = False
        self._noise: MakeNoise | None = None
        attention.install(model)

    @property
    def device(self) -> torch.device:
        """The device of its weights."""
        found: torch.device = next(self.model.parameters()).device
        return found

    @contextlib.contextmanager
    def with_noise(self, noise: MakeNoise) -> Iterator[None]:
        """A context in which `token_statistics` adds noise to the embeddings; a second model that it compares with gets none."""
        self._noise = noise
        try:
            yield
        finally:
            self._noise = None

    def token_statistics(  # noqa: PLR0913 (each is needed by one of the statistics)
        self,
        rows: Sequence[EncodedRow],
        which: Collection[str] = ("logps",),
        *,
        reference: Policy | None = None,
        temperature: float = 1.0,
        top_k: int = 8,
        uniform: torch.Tensor | None = None,
        jsd_beta: float = 0.5,
        summed: bool = False,
    ) -> TokenStatistics:
        """Statistics of the rows' completion tokens, from one forward pass without padding; differentiable.

        Rows with equal prompts share the prompt's computation. The head runs only for tokens that count,
        in chunks, so that the logits of all tokens are never in memory.

        Args:
            rows: Prompts and completions.
            which: Names of `token_statistics.STATISTICS`.
            reference: A second model with the same vocabulary, for the statistics that compare; it gets no gradient. If it is
                the policy itself, the reference is the policy without its adapter. The reference runs first, so that its
                activations are freed before the policy's are kept.
            temperature: Temperature of all distributions, also of the reference's.
            top_k: How many tokens `top_logps` and `top_ids` give, and of how many `cringe_positive` draws one.
            uniform: (N,) fp64 numbers in [0, 1) for `cringe_positive`, one per token that counts, row after row
                (`cringe_picks.uniform_numbers`).
            jsd_beta: The reference's weight in the mixture of `generalized_jsd`.
            summed: Whether the loss is a multiple of the sum of all `logps`: then the same gradient is computed faster. If this is wrong, it costs time.

        Raises:
            ModelError: an unknown name, a statistic that compares without a reference or with one of another vocabulary, or one
                that draws without a number for each token.
        """
        which = tuple(which)
        _check(which, reference)
        packed = pack(rows, self.device)
        if any(STATISTICS[name].draws for name in which):
            uniform = _numbers_of(uniform, packed)
        compared = None
        if reference is not None:
            _check_sizes(self, reference)
            compared = reference._compared(packed, temperature, without_adapter=reference is self)
        noise = None if self._noise is None else self._noise(packed)
        hidden = hidden_states(self.model, packed, self.runtime, noise)[packed.predicting]
        request = Request(which, packed.targets, top_k, compared, uniform, jsd_beta, summed)
        values = head_statistics(self.head(temperature), hidden, request)
        return TokenStatistics(packed.owners, len(rows), dict(zip(which, values, strict=True)))

    @torch.no_grad()
    def _compared(self, packed: Packed, temperature: float, without_adapter: bool) -> Reference:
        """This model as the reference of another model, or, without its adapter, as its own reference."""
        head = self.head(temperature)
        if self.adapter is None or not without_adapter:
            return Reference(head, hidden_states(self.model, packed, self.runtime)[packed.predicting])
        with self.adapter.off():
            hidden = hidden_states(self.model, packed, self.runtime)[packed.predicting]
        # the head runs again in the backward pass, when the adapter is on
        return Reference(replace(head, module=self.adapter.without(head.module)), hidden)

    def head(self, temperature: float = 1.0) -> Head:
        """The model's head, for the distribution at a temperature; raises ModelError for a head that is not supported."""
        dtype = torch.bfloat16 if self.runtime.precision == "bf16" else torch.float32
        head = Head(self.model.get_output_embeddings(), scaling_of(self.model.config, temperature), dtype)
        if not self._head_is_known:
            _check_head(self.model, replace(head, scaling=scaling_of(self.model.config), dtype=torch.float32))
            self._head_is_known = True
        return head


@torch.no_grad()
def _check_head(model: Any, head: Head) -> None:
    """Compare the head's logits with the model's own, once, on a few tokens."""
    packed = pack(trial_rows(model)[:1], next(model.parameters()).device)
    with without_dropout(model), attention.rows_of(packed):
        ours = head.scaling.apply(
            product(head, hidden_states(model, packed, Runtime(device=packed.input_ids.device.type)))
        )
        theirs = model(input_ids=packed.input_ids, use_cache=False).logits[0].float()
    if theirs.isfinite().all() and not torch.allclose(ours, theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max())):
        raise ModelError(
            f"{type(model).__name__} transforms its head's output in a way that alignflow does not know",
            where="token_statistics",
            do="use another architecture, or add its scaling to models/head.py",
        )


def _check(which: Sequence[str], reference: Policy | None) -> None:
    for name in which:
        if name not in STATISTICS:
            raise ModelError(f"no statistic named {name!r}", where="token_statistics", do=suggest(name, STATISTICS))
        if STATISTICS[name].compares and reference is None:
            raise ModelError(
                f"{name} compares with a second model", where="token_statistics", do="pass it as `reference`"
            )


def _numbers_of(uniform: torch.Tensor | None, packed: Packed) -> torch.Tensor:
    found = None if uniform is None else tuple(uniform.shape)
    if uniform is None or found != tuple(packed.targets.shape):
        raise ModelError(
            f"cringe_positive needs {len(packed.targets)} uniform numbers, and `uniform` has the shape {found}",
            where="token_statistics",
            do="pass one number per token as `uniform`",
        )
    return uniform.to(packed.targets.device)


def _check_sizes(policy: Policy, reference: Policy) -> None:
    """Raise ModelError if two models score vocabularies of different sizes."""
    ours, theirs = (model.model.config.get_text_config(decoder=True).vocab_size for model in (policy, reference))
    if ours != theirs:
        raise ModelError(
            f"the policy scores {ours} tokens and the reference {theirs}: their distributions cannot be compared",
            where="token_statistics",
            do="use a reference of the same family of models",
        )


def check_same_vocabulary(policy: Policy, other: Policy, where: str) -> None:
    """Check once that every token id means the same in two models, as divergences between them require.

    Args:
        policy: The model that learns.
        other: Its reference or teacher.
        where: The field of the recipe that names `other`, for the message.

    Raises:
        ModelError: they do not.
    """
    _check_sizes(policy, other)
    ours, theirs = policy.tokenizer.get_vocab(), other.tokenizer.get_vocab()
    if ours != theirs:
        different = sorted(set(ours.items()) ^ set(theirs.items()), key=lambda entry: (entry[1], entry[0]))
        token, number = different[0]
        raise ModelError(
            f"the two models give token ids different meanings: {token!r} has id {number} in one of them only",
            where=where,
            do="use a model with the same tokenizer",
        )


def load_policy(path: Path, runtime: Runtime, trainable: bool = False) -> Policy:
    """Load a checkpoint in fp32, with an adapter merged into its base. The weights of an artifact are verified first.

    Args:
        path: Directory of the model and its tokenizer.
        runtime: Device, precision and engine.
        trainable: Whether its parameters take gradients; dropout is off either way.

    Raises:
        ModelError: it does not load.
        DamagedArtifactError: its bytes are not those of its manifest.
    """
    model = _load(path, runtime, in_parts=trainable)
    return Policy(model.to(runtime.device).eval().requires_grad_(trainable), load_tokenizer(path), runtime)


def load_learner(path: Path, config: TrainingConfig, runtime: Runtime, in_parts: bool = False) -> Policy:
    """Load the policy that `config` trains: all of its weights, or a fresh adapter if the config asks for one.

    The frozen base of an adapter is converted to bf16 where possible (`frozen_weights.py`), before it is moved to the device. Arguments and errors as in
    `load_policy`; `in_parts` as in `add_adapter`.
    """
    model = _load(path, runtime, in_parts=True)
    policy = Policy(model.eval().requires_grad_(True), load_tokenizer(path), runtime)
    add_adapter(policy, config, path, in_parts)
    if policy.adapter is not None:
        keep_in_bf16(policy.model, runtime)
    policy.model.to(runtime.device)
    return policy


def load_frozen(path: Path, runtime: Runtime, in_parts: bool = False) -> Policy:
    """Load a policy for inference only, such as a reference or a teacher: never train it, and never save it.

    Its matrices are in bf16 where possible (`frozen_weights.py`). With `in_parts` it is partitioned among the processes under ZeRO 3, as a
    trainable one always is. Other arguments and errors as in `load_policy`.
    """
    model = _load(path, runtime, in_parts).eval().requires_grad_(False)
    if not (in_parts and runtime.gathers):
        keep_in_bf16(model, runtime)
    model = model.to(runtime.device)
    if in_parts:
        share_out_frozen(model, runtime)
    return Policy(model, load_tokenizer(path), runtime)


def _load(path: Path, runtime: Runtime, in_parts: bool) -> Any:
    """The model in fp32, on the CPU unless it is loaded partitioned."""
    verify_files(Path(path))
    try:
        if is_adapter(Path(path)):
            return from_pretrained(AutoModelForCausalLM, path, torch.float32)
        return load_model(AutoModelForCausalLM, Path(path), runtime, in_parts)
    except (OSError, ValueError) as error:
        first = (str(error).strip().splitlines() or [""])[0][:200]
        raise ModelError(
            f"no causal language model that can be loaded: {first}",
            where=str(path),
            do="use a directory with safetensors",
        ) from error


@torch.no_grad()
def completion_logps(policy: Policy, rows: Sequence[EncodedRow], micro_batch_tokens: int) -> list[torch.Tensor]:
    """For each row its completion tokens' log-probabilities, (tokens,) fp32 on the CPU, without gradients.

    Every process of a stage must call it, each with its own rows, at least one.
    """
    results: list[torch.Tensor] = [torch.empty(0)] * len(rows)
    for batch, counts_here in in_step(row_micro_batches(rows, micro_batch_tokens)):
        statistics = policy.token_statistics([rows[index] for index in batch])
        if not counts_here:
            continue
        counts = [int(count) for count in statistics.counts()]
        for index, logps in zip(batch, statistics.logps.cpu().split(counts), strict=True):
            results[index] = logps
    return results
