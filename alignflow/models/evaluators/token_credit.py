"""The implicit reward of each token of both models' answers, as a table and for the heat map of the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from alignflow.models.evaluators.base import MODELS, Evaluation, EvaluationInputs
from alignflow.models.policy import completion_logps

FILE = "token_credit.parquet"
TOP = 0.1
"""The metric is the credit of this share of the tokens."""
SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("model", pa.string()),
        ("token_ids", pa.list_(pa.int64())),
        ("tokens", pa.list_(pa.string())),
        ("credit", pa.list_(pa.float64())),
        ("running", pa.list_(pa.float64())),
    ]
)


def evaluate(inputs: EvaluationInputs) -> Evaluation:
    """log pi(y_t) - log pi_SFT(y_t), nats, of each token of the answers of both models, pi the aligned model.

    Times the beta of a DPO training it is the token's implicit reward (Rafailov et al. 2024, "From r to Q*", arXiv 2404.12358): beta
    is omitted, since a model does not record with which it was trained. Only the sum over an answer is the answer's reward; a single
    token's also holds the difference of two values.

    Writes token_credit.parquet: a row per answer with `prompt_id`, `model` (aligned or sft), `token_ids`, `tokens` (texts that join to
    the answer), `credit` and `running`, its running sum. Answers
    without a token are left out, and counted as `answers_without_tokens` in evaluation.json. Metric: `token_credit/top_decile`, the share of the sum of absolute credit that
    lies on the tenth of tokens that have the most (0.1 if all have the same; None where all of it is 0).
    """
    tokenizer = inputs.policy("aligned").tokenizer
    answers = [(index, model, row) for model in MODELS for index, row in inputs.encoded(model)]
    rows = [row for _, _, row in answers]
    budget = inputs.run.runtime.micro_batch_tokens
    logps = {model: completion_logps(inputs.policy(model), rows, budget) if rows else [] for model in MODELS}
    credits = [(one - other).double() for one, other in zip(logps["aligned"], logps["sft"], strict=True)]
    made = [
        {
            "prompt_id": inputs.prompts[index]["id"],
            "model": model,
            "token_ids": list(row.completion_ids),
            "tokens": token_texts(tokenizer, row.completion_ids),
            "credit": credit.tolist(),
            "running": credit.cumsum(0).tolist(),
        }
        for (index, model, row), credit in zip(answers, credits, strict=True)
    ]
    pq.write_table(pa.Table.from_pylist(made, SCHEMA), inputs.run.out / FILE)
    metrics = {"token_credit/top_decile": top_share(torch.cat(credits) if credits else torch.zeros(0), TOP)}
    shown = [
        {"prompt": inputs.prompts[index]["prompt"], **{name: row[name] for name in ("model", "tokens", "credit")}}
        for (index, _, _), row in zip(answers, made, strict=True)
        if index < inputs.config.samples
    ]
    without = len(MODELS) * len(inputs.prompts) - len(answers)
    return Evaluation(metrics, {"answers": shown, "answers_without_tokens": without, **metrics})


def top_share(credit: torch.Tensor, top: float) -> float | None:
    """The share of the sum of |credit| (N,) on the ceil(top N) tokens with the most of it; None if the sum is 0."""
    sizes = credit.abs().sort(descending=True).values
    total = float(sizes.sum())
    return float(sizes[: math.ceil(len(sizes) * top)].sum()) / total if total else None


def token_texts(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """A text per token, which join to the text of all: a token that ends within a character has an empty one, and the token that
    ends the character has all of it."""
    texts: list[str] = []
    begin = read = (
        0  # the tokens from `begin` to `read` are decoded again: some tokenizers write a blank unless a token is the first
    )
    for end in range(1, len(ids) + 1):
        before, whole = (
            tokenizer.decode(list(ids[begin:stop]), clean_up_tokenization_spaces=False) for stop in (read, end)
        )
        if whole.endswith("\ufffd") and end < len(ids):
            texts.append("")
            continue
        texts.append(whole[len(before) :])
        begin, read = read, end
    return texts
