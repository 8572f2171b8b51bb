"""Cases of figures of a token's distribution: those of the table that training takes them from."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from alignflow.models.cases.base import Arguments, Caller, Outputs, Tensors
from alignflow.models.token_statistics import STATISTICS, Chunk


def _chunk(logits: torch.Tensor, reference: torch.Tensor | None = None, targets: torch.Tensor | None = None) -> Chunk:
    """Some tokens, (tokens, vocabulary)."""
    return Chunk(logits, torch.zeros(len(logits), dtype=torch.long) if targets is None else targets, 1, reference)


def _logsumexp(inputs: Tensors, arguments: Arguments) -> Outputs:
    logits = inputs["x"]
    return {"value": _chunk(logits.reshape(-1, logits.shape[-1])).normaliser.view(logits.shape[:-1])}


def _entropy(inputs: Tensors, arguments: Arguments) -> Outputs:
    logits = inputs["logits"]
    return {"value": STATISTICS["entropy"].value(_chunk(logits.reshape(-1, logits.shape[-1]))).view(logits.shape[:-1])}


def _gather_token_logps(inputs: Tensors, arguments: Arguments) -> Outputs:
    """The logits of a place score the token of the next."""
    logits, tokens = inputs["logits"][:, :-1], inputs["tokens"][:, 1:].long()
    return {"value": STATISTICS["logps"].value(_chunk(logits.flatten(0, 1), targets=tokens.flatten())).view(tokens.shape)}


def _full_kl(inputs: Tensors, arguments: Arguments) -> Outputs:
    mask = inputs["mask"].bool()
    kl = STATISTICS["reverse_kl"].value(_chunk(inputs["p_logdist"][mask], inputs["q_logdist"][mask]))
    per_token = kl.new_zeros(mask.shape).masked_scatter(mask, kl)
    return {"per_token": per_token, "sequence": per_token.sum(-1)}


TOKEN_FIGURES: Mapping[str, Caller] = {
    "entropy_from_logits": _entropy, "full_kl": _full_kl, "gather_token_logps": _gather_token_logps, "logsumexp": _logsumexp,
}  # fmt: skip
"""Name that a case carries -> what calls our function."""
