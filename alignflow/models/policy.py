"""A causal language model that says how probable completions are; losses never see its logits."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForCausalLM

from alignflow.data.adapters import is_adapter
from alignflow.data.artifacts import verify_files
from alignflow.data.errors import ModelError
from alignflow.data.rendering import load_tokenizer
from alignflow.data.run import Runtime
from alignflow.models import attention
from alignflow.models.adapters import Adapter, from_pretrained
from alignflow.models.batching import EncodedRow, Packed, make_micro_batches, pack
from alignflow.models.loading import load_model

CHUNK_TOKENS = 4096


@dataclass(frozen=True)
class TokenStatistics:
    """Figures per completion token that counts, row after row.

    Attributes:
        owners: (N,) int64: the row of each token.
        rows: Number of rows.
        values: Name -> (N,) fp32: `logps`, and on request `entropy` (nats) and `correct` (1 where the most probable
            token is the one that stands there).
    """

    owners: torch.Tensor
    rows: int
    values: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def logps(self) -> torch.Tensor:
        """(N,) fp32 log-probabilities."""
        return self.values["logps"]

    def sums(self, name: str = "logps") -> torch.Tensor:
        """(rows,) fp32: the sum over each row's tokens."""
        return self.values[name].new_zeros(self.rows).index_add(0, self.owners, self.values[name])

    def counts(self) -> torch.Tensor:
        """(rows,) fp32: number of tokens of each row."""
        return torch.bincount(self.owners, minlength=self.rows).float()


class Policy:
    """A model, its tokenizer, and how it is run.

    Args:
        model: A causal language model of transformers, on its device, in fp32.
        tokenizer: Its tokenizer.
        runtime: Precision: `bf16` multiplies in bf16 over fp32 weights; log-probabilities are fp32 either way.
    """

    def __init__(self, model: Any, tokenizer: Any, runtime: Runtime):
        self.model, self.tokenizer, self.runtime = model, tokenizer, runtime
        self.adapter: Adapter | None = None
        self.device = next(model.parameters()).device
        attention.install(model)

    def token_statistics(
        self, rows: Sequence[EncodedRow], which: Collection[str] = ("logps",), temperature: float = 1.0
    ) -> TokenStatistics:
        """Statistics of the rows' completion tokens, from one forward pass without padding; differentiable.

        All of them are of the distribution at `temperature`: logits divided by it, before the softmax.
        The head runs only where a token that counts is predicted, in chunks whose logits are computed anew in the
        backward pass, so that they are never all in memory.
        """
        packed = pack(rows, self.device)
        hidden = hidden_states(self.model, packed, self.runtime)[packed.predicting]
        parts = [self._head(hidden[start : start + CHUNK_TOKENS], packed.targets[start : start + CHUNK_TOKENS], which, temperature)
                 for start in range(0, max(len(hidden), 1), CHUNK_TOKENS)]  # fmt: skip
        values = {name: torch.cat([part[index] for part in parts]) for index, name in enumerate(which)}
        return TokenStatistics(packed.owners, len(rows), values)

    def _head(self, hidden: torch.Tensor, targets: torch.Tensor, which: Collection[str], temperature: float) -> tuple[torch.Tensor, ...]:
        def statistics(states: torch.Tensor) -> tuple[torch.Tensor, ...]:
            with autocast(self.runtime):
                logits = self.model.get_output_embeddings()(states)
            log_probabilities = torch.log_softmax(scaled_logits(logits, self.model.config) / temperature, dim=-1)
            return tuple(_STATISTICS[name](log_probabilities, targets) for name in which)

        if torch.is_grad_enabled() and hidden.requires_grad:
            return checkpoint(statistics, hidden, use_reentrant=False)
        return statistics(hidden)


_STATISTICS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "logps": lambda log_probabilities, targets: log_probabilities.gather(-1, targets[:, None])[:, 0],
    "entropy": lambda log_probabilities, targets: -(log_probabilities.exp() * log_probabilities).sum(-1),
    "correct": lambda log_probabilities, targets: (log_probabilities.detach().argmax(-1) == targets).float(),
}


def scaled_logits(logits: torch.Tensor, config: Any) -> torch.Tensor:
    """Logits in fp32, with what some architectures do to them after the head."""
    logits = logits.float()
    if scale := getattr(config, "logits_scaling", None):  # Granite
        logits = logits / scale
    if scale := getattr(config, "logit_scale", None):  # Cohere
        logits = logits * scale
    if cap := getattr(config, "final_logit_softcapping", None):  # Gemma 2
        logits = torch.tanh(logits / cap) * cap
    return logits


def hidden_states(model: Any, packed: Packed, runtime: Runtime) -> torch.Tensor:
    """The last hidden states of packed rows, (T, width)."""
    with attention.rows_of(packed), autocast(runtime):
        output = model.base_model(input_ids=packed.input_ids, position_ids=packed.position_ids, use_cache=False)
    return output.last_hidden_state[0]


def autocast(runtime: Runtime) -> torch.autocast:
    """bf16 products where the runtime says so, nothing otherwise."""
    return torch.autocast(runtime.device, dtype=torch.bfloat16, enabled=runtime.precision == "bf16")


def load_policy(path: Path, runtime: Runtime, trainable: bool = False) -> Policy:
    """Load a checkpoint in fp32, an adapter merged into its base; its weights are verified first where they lie in a store.

    Args:
        path: Directory of the model and its tokenizer.
        runtime: Where and how it runs.
        trainable: Whether its parameters take gradients; dropout is off either way.

    Raises:
        ModelError: it does not load.
        DamagedArtifactError: its bytes are not those of its manifest.
    """
    verify_files(Path(path))
    try:
        if is_adapter(Path(path)):
            model = from_pretrained(AutoModelForCausalLM, path, torch.float32)
        else:
            model, _ = load_model(AutoModelForCausalLM, Path(path), runtime, trainable)
    except (OSError, ValueError) as error:
        first = (str(error).strip().splitlines() or [""])[0][:200]
        raise ModelError(
            f"no causal language model that can be loaded: {first}", where=str(path), do="give a directory with safetensors"
        ) from error
    model = model.to(runtime.device).eval().requires_grad_(trainable)
    return Policy(model, load_tokenizer(path), runtime)


@torch.no_grad()
def completion_logps(policy: Policy, rows: Sequence[EncodedRow], micro_batch_tokens: int) -> list[torch.Tensor]:
    """For each row its completion tokens' log-probabilities, (tokens,) fp32 on the CPU, without gradients."""
    results: list[torch.Tensor] = [torch.empty(0)] * len(rows)
    for batch in make_micro_batches([len(row) for row in rows], micro_batch_tokens):
        statistics = policy.token_statistics([rows[index] for index in batch])
        counts = [int(count) for count in statistics.counts()]
        for index, logps in zip(batch, statistics.logps.cpu().split(counts), strict=True):
            results[index] = logps
    return results
