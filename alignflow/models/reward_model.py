"""A reward model: a causal model's backbone with one score per answer, read at the answer's last token."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import AutoModelForSequenceClassification

from alignflow.data.adapters import is_adapter
from alignflow.data.artifacts import verify_files
from alignflow.data.configs.training import TrainingConfig
from alignflow.data.errors import ModelError
from alignflow.data.rendering import encode_turn, load_tokenizer
from alignflow.data.run import Runtime, write_json
from alignflow.models import attention
from alignflow.models.adapters import Adapter, add_adapter, from_pretrained, has_head, save_model
from alignflow.models.backbone import autocast, hidden_states
from alignflow.models.batching import EncodedRow, pack, row_micro_batches
from alignflow.models.engines.partitioned import fill
from alignflow.models.frozen_weights import keep_in_bf16
from alignflow.models.loading import load_model

CHECK_ROWS = "check_rows.json"
TOLERANCE = {"fp32": 1e-4, "bf16": 5e-2}

ScoredRow = tuple[Sequence[Mapping[str, str]], str, bool]
"""Messages of the prompt, the answer's text, and whether it ended by itself."""


class Scorer(Protocol):
    """Scores each row of ids: a reward model, or an ensemble."""

    def scores_packed(self, rows: Sequence[EncodedRow]) -> torch.Tensor:
        """(rows,) fp32 scores."""


class Reader(Protocol):
    """The tokenizer of the rows' ids, and the largest number of tokens of a row."""

    tokenizer: Any
    context_length: int | None


class RewardModel:
    """Scores answers with its own tokenizer, from their text."""

    def __init__(self, model: Any, tokenizer: Any, runtime: Runtime):
        self.model, self.tokenizer, self.runtime = model, tokenizer, runtime
        self.adapter: Adapter | None = None
        self.context_length = getattr(model.config, "max_position_embeddings", None)
        attention.install(model)

    @property
    def device(self) -> torch.device:
        """The device of its weights."""
        found: torch.device = next(self.model.parameters()).device
        return found

    def scores_packed(self, rows: Sequence[EncodedRow]) -> torch.Tensor:
        """(rows,) fp32 scores from one forward pass without padding; equal prompts are computed once; differentiable."""
        packed = pack(rows, self.device)
        last = hidden_states(self.model, packed, self.runtime)[packed.last]
        with autocast(self.runtime):
            return self.model.score(last)[:, 0].float()

    def encode(self, row: ScoredRow) -> EncodedRow:
        """Ids of a prompt and an answer; cut from the left if they exceed the context."""
        messages, text, ended = row
        turn = encode_turn(self.tokenizer, messages, text, ended=ended)
        prompt, completion = turn.prompt_ids, turn.completion_ids
        if self.context_length and len(prompt) + len(completion) > self.context_length:
            completion = completion[-self.context_length :]
            prompt = prompt[len(prompt) + len(completion) - self.context_length :]
        return EncodedRow(tuple(prompt), tuple(completion))

    @torch.no_grad()
    def score(self, rows: Sequence[ScoredRow]) -> list[float]:
        """One score per row."""
        return self.score_encoded([self.encode(row) for row in rows])

    @torch.no_grad()
    def score_encoded(self, rows: Sequence[EncodedRow]) -> list[float]:
        """One score per row of ids, in micro-batches."""
        scores = [0.0] * len(rows)
        for batch in row_micro_batches(rows, self.runtime.micro_batch_tokens):
            for index, value in zip(batch, self.scores_packed([rows[index] for index in batch]).tolist(), strict=True):
                scores[index] = value
        return scores


def build_reward_model(base: Path, runtime: Runtime, config: TrainingConfig | None = None) -> RewardModel:
    """A trainable reward model on a causal model's backbone with a head of zeros: every score is 0, and a loss of pairs starts at ln 2.

    A random head gives scores that depend on the scale of the hidden states, and the first steps only undo them. The first step
    changes only the head, since no gradient passes a head of zeros. If the config asks for an adapter, adapter and head are trained, and the base is
    in bf16 where possible (`frozen_weights.py`). Raises ModelError if the architecture has no such head.
    """
    verify_files(base)
    tokenizer = load_tokenizer(base)
    model = _load(base, runtime, in_parts=True, num_labels=1)
    if not isinstance(getattr(model, "score", None), torch.nn.Linear):
        raise ModelError(
            f"{type(model).__name__} has no linear head named score", where=str(base), do="use another base model"
        )
    fill(model.score.weight, torch.zeros(1, model.score.in_features))
    _set_pad(model, tokenizer)
    reward = RewardModel(model.eval().requires_grad_(True), tokenizer, runtime)
    if config is not None:
        add_adapter(reward, config, base)
    if reward.adapter is not None:
        keep_in_bf16(reward.model, runtime)
    reward.model.to(runtime.device)
    return reward


def _set_pad(model: Any, tokenizer: Any) -> None:
    """Give model and tokenizer a pad token other than EOS: transformers reads the score at the last token that is not a pad token."""
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        others = [token for token in (tokenizer.unk_token, tokenizer.bos_token, *tokenizer.all_special_tokens) if token]
        free = [token for token in others if token != tokenizer.eos_token]
        if not free:
            raise ModelError(
                "the tokenizer has no pad token other than EOS",
                where="tokenizer",
                do="set pad_token to a token that texts do not have",
            )
        tokenizer.pad_token = free[0]
    model.config.pad_token_id = tokenizer.pad_token_id


def save_reward_model(reward: RewardModel, out: Path, checks: Sequence[ScoredRow], card: Mapping[str, str]) -> None:
    """Write it (or its adapter) so that AutoModelForSequenceClassification (or peft) loads it, with scored rows that a loader must reproduce."""
    rows = [reward.encode(check) for check in checks]
    scores = reward.score_encoded(rows)
    write_json(
        out / CHECK_ROWS,
        [
            {
                "messages": list(messages),
                "completion": text,
                "ended": ended,
                "ids": [*row.prompt_ids, *row.completion_ids],
                "score": score,
            }
            for (messages, text, ended), row, score in zip(checks, rows, scores, strict=True)
        ],
    )
    save_model(reward, out, card)
    attention.install(reward.model)


def load_reward_model(path: Path, runtime: Runtime, compute_only: bool = False) -> RewardModel:
    """Load a reward model and score its check rows again.

    `compute_only`: the caller neither trains nor saves it, so its matrices may be in bf16 (`frozen_weights.py`).

    Raises:
        ModelError: it does not load, has not one score per row, or its check rows get other scores: a fresh head,
            another tokenizer or damaged weights.
        DamagedArtifactError: its bytes are not those of its manifest.
    """
    path = Path(path)
    verify_files(path)
    model, tokenizer = _load(path, runtime), load_tokenizer(path)
    if is_adapter(path):
        _set_pad(model, tokenizer)
    if model.config.num_labels != 1 or not isinstance(getattr(model, "score", None), torch.nn.Linear):
        raise ModelError(
            f"not a reward model: {model.config.num_labels} labels",
            where=str(path),
            do="use a model with num_labels 1 and a linear head",
        )
    model = model.eval().requires_grad_(False)
    if compute_only:
        keep_in_bf16(model, runtime)
    reward = RewardModel(model.to(runtime.device), tokenizer, runtime)
    if (path / CHECK_ROWS).is_file():
        _check(reward, json.loads((path / CHECK_ROWS).read_text()), path)
    return reward


def _load(path: Path, runtime: Runtime, in_parts: bool = False, **changes: Any) -> Any:
    try:
        if is_adapter(path):  # its base has only the backbone
            if not has_head(path) and not changes:
                raise ModelError(
                    "the adapter has no reward model's head, and the scores of a fresh one mean nothing",
                    where=str(path),
                    do="use a trained reward model",
                )
            model = from_pretrained(AutoModelForSequenceClassification, path, torch.float32, num_labels=1)
        else:
            model = load_model(AutoModelForSequenceClassification, path, runtime, in_parts, **changes)
    except (OSError, ValueError) as error:
        first = (str(error).strip().splitlines() or [""])[0][:200]
        raise ModelError(
            f"no sequence classification model that can be loaded: {first}",
            where=str(path),
            do="use a Hugging Face directory",
        ) from error
    return model


def _check(reward: RewardModel, checks: list[dict[str, Any]], path: Path) -> None:
    rows = [reward.encode((check["messages"], check["completion"], check["ended"])) for check in checks]
    for row, check in zip(rows, checks, strict=True):
        if [*row.prompt_ids, *row.completion_ids] != check["ids"]:
            raise ModelError(
                "its tokenizer gives other ids than when it was saved",
                where=str(path),
                do="restore its tokenizer files",
            )
    tolerance = TOLERANCE[reward.runtime.precision]
    for score, check in zip(reward.score_encoded(rows), checks, strict=True):
        if abs(score - check["score"]) > tolerance * max(1.0, abs(check["score"])):
            raise ModelError(
                f"a stored row scored {check['score']:.6f} when it was saved and {score:.6f} now",
                where=str(path),
                do="its head or weights are not those that were trained",
            )
