"""Log-probabilities of preference pairs under a frozen reference: computed once per (reference, data), read by every alignment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from alignflow.data.artifacts import identity
from alignflow.data.configs.training import ReferenceConfig
from alignflow.data.errors import TrainingError
from alignflow.data.records import read_table, row_id, write_table
from alignflow.data.run import Run, write_json
from alignflow.models.batching import EncodedRow
from alignflow.models.generation.journal import RowJournal
from alignflow.models.policy import Policy, completion_logps, load_policy
from alignflow.models.trainers.pairs import Pairs, read_pairs

SIDES = ("train", "heldout")
ANSWERS = ("chosen", "rejected")
ABOUT = "reference.json"
ANSWERS_PER_COMMIT = 256

References = dict[str, torch.Tensor]
"""`train/chosen`, `train/rejected`, `heldout/chosen`, `heldout/rejected` -> (rows,) fp32: sums of log-probabilities, nats."""


def compute_reference(config: ReferenceConfig, *, checkpoint: Path, preferences: Path, run: Run) -> dict[str, float | None]:
    """Score both answers of every pair with `checkpoint`; what was scored before a kill is not scored again.

    Writes train.parquet and heldout.parquet, one row per pair in the order of the preferences: sums, numbers of tokens, and
    with `per_token` the log-probability of each token. Metrics: `pairs`, and `logps/chosen` and `logps/rejected` as means
    over the pairs of train.parquet.

    Raises:
        TrainingError: no pair is left.
    """
    policy = load_policy(checkpoint, run.runtime)
    digest = identity(checkpoint)[1]
    sides = {side: read_pairs(preferences / f"{side}.parquet", policy.tokenizer, config.max_length, run, "reference") for side in SIDES}
    if not len(sides["train"]):
        raise TrainingError("no preference pairs to learn from", where="reference", do="raise align.max_length, or label more candidates")
    answers = [row for pairs in sides.values() for row in (*pairs.chosen, *pairs.rejected)]
    scored = iter(_score(policy, answers, digest, config, run))
    for side, pairs in sides.items():
        found = {name: [next(scored) for _ in pairs.ids] for name in ANSWERS}
        write_table(_rows(pairs, found), "references", run.out / f"{side}.parquet")
    write_json(run.out / ABOUT, {"checkpoint": digest, "max_length": config.max_length})
    means = {f"logps/{name}": float(sums.mean()) for name, sums in _sums(run.out / "train.parquet", sides["train"]).items()}
    return {"pairs": float(sum(map(len, sides.values()))), **means}


def _score(policy: Policy, answers: Sequence[EncodedRow], digest: str, config: ReferenceConfig, run: Run) -> list[dict[str, Any]]:
    """For each answer its `sum` and, where they are wanted, its `tokens`; in the order of `answers`."""
    longest: dict[tuple[int, ...], int] = {}
    for row in answers:
        longest[row.prompt_ids] = max(len(row), longest.get(row.prompt_ids, 0))
    # similar lengths together, and the answers to one prompt, so that it is computed once
    order = sorted(range(len(answers)), key=lambda index: (longest[answers[index].prompt_ids], answers[index].prompt_ids, index))
    ids = [row_id("reference", digest, config.per_token, answers[index].prompt_ids, answers[index].completion_ids) for index in order]

    def compute(batch: list[int]) -> list[dict[str, Any]]:
        rows = [answers[order[place]] for place in batch]
        run.count_tokens(sum(map(len, rows)))
        logps = completion_logps(policy, rows, run.runtime.micro_batch_tokens)
        return [{"sum": float(row.sum()), "tokens": row.tolist() if config.per_token else None} for row in logps]

    results = RowJournal(run.rows).compute(ids, ANSWERS_PER_COMMIT, compute, lambda done, total: run.progress(done, total, "answers"))
    by_answer = dict(zip(order, results, strict=True))
    return [by_answer[index] for index in range(len(answers))]


def _rows(pairs: Pairs, found: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    encoded = {"chosen": pairs.chosen, "rejected": pairs.rejected}
    return [
        {"id": name}
        | {f"{answer}_logps": found[answer][index]["sum"] for answer in ANSWERS}
        | {f"{answer}_tokens": encoded[answer][index].supervised for answer in ANSWERS}
        | {f"{answer}_token_logps": found[answer][index]["tokens"] for answer in ANSWERS}
        for index, name in enumerate(pairs.ids)
    ]


def read_references(directory: Path, data: dict[str, Pairs]) -> References:
    """The sums that `compute_reference` wrote, for the same pairs.

    Raises:
        TrainingError: they are of other pairs, or of other tokens.
    """
    return {f"{side}/{name}": sums for side, pairs in data.items() for name, sums in _sums(directory / f"{side}.parquet", pairs).items()}


def _sums(path: Path, pairs: Pairs) -> dict[str, torch.Tensor]:
    rows = read_table(path)
    tokens = [(chosen.supervised, rejected.supervised) for chosen, rejected in zip(pairs.chosen, pairs.rejected, strict=True)]
    if [row["id"] for row in rows] != pairs.ids or [(row["chosen_tokens"], row["rejected_tokens"]) for row in rows] != tokens:
        raise TrainingError(
            "the reference's log-probabilities are of other pairs or of other tokens", where=str(path),
            do="compute them from the same preferences, with the same tokenizer and max_length",
        )  # fmt: skip
    return {name: torch.tensor([row[f"{name}_logps"] for row in rows], dtype=torch.float32) for name in ANSWERS}


def is_of(directory: Path, checkpoint: Path) -> bool:
    """Whether the log-probabilities in `directory` are those of `checkpoint`, byte for byte."""
    return json.loads((directory / ABOUT).read_text())["checkpoint"] == identity(checkpoint)[1]
