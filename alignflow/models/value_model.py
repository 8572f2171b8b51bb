"""A value model: a causal model's backbone with one estimate per token, read at the state before it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification

from alignflow.data.artifacts import verify_files
from alignflow.data.errors import ModelError, RecipeError
from alignflow.data.rendering import load_tokenizer
from alignflow.data.run import Runtime
from alignflow.models import attention
from alignflow.models.adapters import from_pretrained
from alignflow.models.backbone import autocast, hidden_states
from alignflow.models.batching import EncodedRow, pack
from alignflow.models.in_step import passes_in_step
from alignflow.models.reward_ensemble import one_model
from alignflow.models.reward_model import load_reward_model

CLUE = "align.options.init_value_from"


class ValueModel:
    """Estimates the future return from the policy's token ids."""

    def __init__(self, model: Any, runtime: Runtime, origin: str):
        self.model, self.runtime, self.origin = model, runtime, origin
        self.device = next(model.parameters()).device

    def values_packed(self, rows: Sequence[EncodedRow]) -> torch.Tensor:
        """(N,) fp32: for each completion token, row after row, the value of the state before it; differentiable.

        That state ends with the previous token: the last prompt token for a row's first value.
        """
        packed = pack(rows, self.device)
        states = hidden_states(self.model, packed, self.runtime)[packed.predicting]
        with autocast(self.runtime):
            return self.model.score(states)[:, 0].float()

    @torch.no_grad()
    def values(self, rows: Sequence[EncodedRow], micro_batch_tokens: int) -> list[torch.Tensor]:
        """For each row the values of its completion tokens, (tokens,) fp32 on the CPU, without gradients."""
        results: list[torch.Tensor] = [torch.empty(0)] * len(rows)
        for batch, _ in passes_in_step([len(row) for row in rows], micro_batch_tokens):
            chosen = [rows[index] for index in batch]
            values = self.values_packed(chosen).cpu().split([row.supervised for row in chosen])
            for index, found in zip(batch, values, strict=True):
                results[index] = found
        return results


def make_value_model(origin: str, policy: Path, reward_model: Path | None, runtime: Runtime) -> ValueModel:
    """A trainable value model that starts as the reward model, or as the policy's backbone with a head of zeros.

    Args:
        origin: reward_model, policy, or auto: the reward model if there is one with the policy's tokenizer. For an ensemble it
            is the first member.

    Raises:
        RecipeError: `origin` is reward_model, and there is none, or it has another tokenizer.
    """
    reward_model = None if reward_model is None else one_model(reward_model)
    same = reward_model is not None and same_tokenizer(policy, reward_model)
    if origin == "reward_model" and not same:
        what = (
            "the recipe has no reward model"
            if reward_model is None
            else "the reward model has another tokenizer than the policy"
        )
        raise RecipeError(f"{what}, so the value model cannot start from it", where=CLUE, do="set it to policy")
    if same and origin != "policy":
        assert reward_model is not None
        return ValueModel(load_reward_model(reward_model, runtime).model.requires_grad_(True), runtime, "reward_model")
    return ValueModel(_on_backbone(policy, runtime), runtime, "policy")


def _on_backbone(policy: Path, runtime: Runtime) -> Any:
    """The policy's backbone with a head of zeros: values start at 0 and not at random."""
    verify_files(policy)
    model = from_pretrained(AutoModelForSequenceClassification, policy, torch.float32, num_labels=1)
    if not isinstance(getattr(model, "score", None), torch.nn.Linear):
        raise ModelError(
            f"{type(model).__name__} has no linear head named score", where=str(policy), do="use another base model"
        )
    with torch.no_grad():
        model.score.weight.zero_()
    attention.install(model)
    return model.to(runtime.device).eval().requires_grad_(True)


def same_tokenizer(first: Path, second: Path) -> bool:
    """Whether two models' tokenizers give the same ids: equal vocabularies, rules and added tokens; templates may differ."""
    return _rules(first) == _rules(second)


def _rules(path: Path) -> Any:
    tokenizer = load_tokenizer(path)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return tokenizer.get_vocab()
    content = json.loads(backend.to_str())
    return {name: value for name, value in content.items() if name not in ("truncation", "padding")}
