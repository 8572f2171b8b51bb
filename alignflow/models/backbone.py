"""Hidden states of packed rows: one forward pass without padding if the model supports it, otherwise padded length buckets."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch

from alignflow.data.run import Runtime
from alignflow.models import attention, flash
from alignflow.models.batching import EncodedRow, Packed, group_similar, pack, row_places
from alignflow.models.embedding_noise import Noise, added_to_embeddings

AGREEMENT = {torch.float32: 1e-3, torch.bfloat16: 5e-2}
"""Largest difference of hidden states, as a share of their largest value, at which two ways of computing count as equal."""

_PACKS: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def autocast(runtime: Runtime) -> torch.autocast:
    """A context with bf16 autocast if the runtime's precision is bf16, otherwise a context that does nothing.

    Its cache of bf16 weights is off: it would keep every weight that ZeRO 3 gathers until the pass ends.
    """
    return torch.autocast(
        runtime.device, dtype=torch.bfloat16, enabled=runtime.precision == "bf16", cache_enabled=not runtime.gathers
    )


def backbone(model: Any) -> Any:
    """The part of a model that ends in hidden states, without its head."""
    return model.base_model if model.base_model is not model else model.model


def hidden_states(model: Any, packed: Packed, runtime: Runtime, noise: Noise | None = None) -> torch.Tensor:
    """The last hidden states of packed rows, (T, width), with noise on the embeddings if asked for."""
    if not packs(model):
        return _padded_hidden_states(model, packed, runtime, noise)
    with attention.rows_of(packed), autocast(runtime), added_to_embeddings(model, noise):
        output = backbone(model)(input_ids=packed.input_ids, position_ids=packed.position_ids, use_cache=False)
    return output.last_hidden_state[0]


def packs(model: Any) -> bool:
    """Whether this model computes packed rows as it computes each row alone; tested once, on its first use.

    Models with special attention (ALiBi, position bias, soft caps, sinks), with recurrent or convolution
    layers, or with positions that they compute themselves do not; they get padded length buckets.
    """
    if model not in _PACKS:
        _PACKS[model] = _tried(model)
        if not _PACKS[model]:
            attention.refuse(model)
    return _PACKS[model]


@torch.no_grad()
def _tried(model: Any) -> bool:
    rows = trial_rows(model)
    device = next(model.parameters()).device
    try:
        with without_dropout(model):
            attention.uninstall(model)
            alone = [_row_alone(model, row, device) for row in rows]
            attention.install(model)
            if not all(states.isfinite().all() for states in alone):
                return True  # damaged weights: the test says nothing, and the trainer's message is better
            agree = _agrees(model, rows, alone, torch.float32)
            if agree and flash.available(device) and not _agrees(model, rows, alone, torch.bfloat16):
                flash.switch_off()
            return agree
    except Exception:  # noqa: BLE001 (any error that a model's code raises with this attention means: not packed)
        return False


@contextlib.contextmanager
def without_dropout(model: Any) -> Iterator[None]:
    """A context in which a model is in evaluation mode, without dropout or random numbers; each module's mode is restored."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def trial_rows(model: Any) -> list[EncodedRow]:
    """Two short rows with one prompt and one of another length, so that shared prompts and packing are both tested."""
    vocabulary = model.config.get_text_config(decoder=True).vocab_size
    prompt = tuple(number % vocabulary for number in range(3, 10))
    ends = [
        tuple(number % vocabulary for number in range(first, first + length))
        for first, length in ((20, 5), (40, 9), (60, 12))
    ]
    return [EncodedRow(prompt, ends[0]), EncodedRow(prompt, ends[1]), EncodedRow(prompt[:2], ends[2])]


def _row_alone(model: Any, row: EncodedRow, device: torch.device) -> torch.Tensor:
    ids = torch.tensor([row.prompt_ids + row.completion_ids], device=device)
    return backbone(model)(input_ids=ids, use_cache=False).last_hidden_state[0].float()


def _agrees(model: Any, rows: Sequence[EncodedRow], alone: Sequence[torch.Tensor], dtype: torch.dtype) -> bool:
    """Whether packed rows give the hidden states of each row alone, and the model asked for no other mask than a window."""
    packed = pack(rows, alone[0].device)
    with (
        attention.rows_of(packed) as layout,
        torch.autocast(packed.input_ids.device.type, dtype=torch.bfloat16, enabled=dtype != torch.float32),
    ):
        output = backbone(model)(input_ids=packed.input_ids, position_ids=packed.position_ids, use_cache=False)
    together = output.last_hidden_state[0].float()
    largest = max(float(states.abs().max()) for states in alone)
    places = [row_places([segment], together.device)[0][0] for segment in packed.segments]
    difference = max(float((together[row] - states).abs().max()) for row, states in zip(places, alone, strict=True))
    return difference <= AGREEMENT[dtype] * largest and layout.asked <= layout.windows | {None}


def _padded_hidden_states(model: Any, packed: Packed, runtime: Runtime, noise: Noise | None) -> torch.Tensor:
    """The same from batches of rows of similar length, each with its own copy of its prompt, padded at the right."""
    segments = packed.segments
    takes = inspect.signature(backbone(model).forward).parameters
    states, places = [], []
    for group in group_similar(
        range(len(segments)), lambda index: segments[index].total, attention.SPARE, runtime.micro_batch_tokens
    ):
        where, there = row_places([segments[index] for index in group], packed.input_ids.device)
        arguments = {
            "input_ids": packed.input_ids[0][where],
            "attention_mask": there.long(),
            "position_ids": packed.position_ids[0][where],
        }
        with autocast(runtime), added_to_embeddings(model, noise, where):
            output = backbone(model)(
                **{name: value for name, value in arguments.items() if name in takes}, use_cache=False
            )
        prefixes = torch.tensor([segments[index].prefix_length for index in group], device=where.device)
        own = there & (
            torch.arange(where.shape[1], device=where.device)[None, :] >= prefixes[:, None]
        )  # a prompt: from one copy
        states.append(output.last_hidden_state[own])
        places.append(where[own])
    return torch.cat(states).index_select(0, torch.cat(places).argsort())
