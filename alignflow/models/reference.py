"""Log-probabilities of preference pairs under a frozen reference: computed once per (reference, data), read by every alignment."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import ConcatDataset

from alignflow.data.artifacts import identity
from alignflow.data.configs.training import ReferenceConfig
from alignflow.data.errors import TrainingError
from alignflow.data.records import row_id, table_batches, write_table
from alignflow.data.run import Run, write_json
from alignflow.models.batching import EncodedRow, prompt_groups
from alignflow.models.engines import group
from alignflow.models.generation.journal import RowJournal, plan
from alignflow.models.policy import Policy, completion_logps, load_policy
from alignflow.models.trainers.pairs import Pairs, read_pairs
from alignflow.models.trainers.passes import deal
from alignflow.models.trainers.room import context_of

SIDES = ("train", "heldout")
ANSWERS = ("chosen", "rejected")
ABOUT = "reference.json"
ANSWERS_PER_COMMIT = 256
ROWS_AT_ONCE = 1024  # the log-probabilities of each token stand beside the sums

Answers = ConcatDataset[EncodedRow]
"""The chosen answers of train.parquet, then the rejected ones, then those of heldout.parquet; each is read when it is asked for."""
References = dict[str, torch.Tensor]
"""`train/chosen`, `train/rejected`, `heldout/chosen`, `heldout/rejected` -> (rows,) fp32: sums of log-probabilities, nats."""


def compute_reference(config: ReferenceConfig, *, checkpoint: Path, preferences: Path, run: Run) -> dict[str, float | None]:
    """Score both answers of every pair with `checkpoint`; what was scored before a kill is not scored again.

    Several processes share the answers, and under ZeRO 3 the model; the first one keeps the journal and writes. It writes
    train.parquet and heldout.parquet, one row per pair in the order of the preferences: sums, numbers of tokens, and with
    `per_token` the log-probability of each token. Metrics, its alone: `pairs`, and `logps/chosen` and `logps/rejected` as
    means over the pairs of train.parquet.

    Raises:
        TrainingError: no pair is left.
    """
    group.join(run.runtime)
    policy = load_policy(checkpoint, run.runtime, in_parts=True)
    digest = identity(checkpoint)[1]
    context = context_of(policy.model)
    sides = {
        side: read_pairs(preferences / f"{side}.parquet", policy.tokenizer, config.max_length, run, "reference", context) for side in SIDES
    }  # fmt: skip
    if not len(sides["train"]):
        raise TrainingError("no preference pairs to learn from", where="reference", do="raise align.max_length, or label more candidates")
    answers = ConcatDataset([rows for pairs in sides.values() for rows in (pairs.chosen, pairs.rejected)])
    scored = iter(_score(policy, answers, digest, config, run))
    if not run.main:
        return {}
    for side, pairs in sides.items():
        found = {name: [next(scored) for _ in range(len(pairs))] for name in ANSWERS}
        write_table(_rows(pairs, found), "references", run.out / f"{side}.parquet")
    write_json(run.out / ABOUT, {"checkpoint": digest, "max_length": config.max_length})
    means = {f"logps/{name}": float(sums.mean()) for name, sums in _sums(run.out / "train.parquet", sides["train"]).items()}
    return {"pairs": float(sum(map(len, sides.values()))), **means}


def _score(policy: Policy, answers: Answers, digest: str, config: ReferenceConfig, run: Run) -> list[dict[str, Any]]:
    """For each answer its `sum` and, where they are wanted, its `tokens`; in the order of `answers`, in the first process alone."""
    names, order = _names_and_order(answers, digest, config)
    ids = [names[index] for index in order]

    def compute(batch: list[int]) -> list[dict[str, Any]]:
        return _together(policy, [answers[order[place]] for place in batch], config.per_token, run)

    journal = RowJournal(run.rows, run.note)
    known = journal.known() if run.main else {}  # read once: other runs write too, and all processes must go by one plan
    planned = group.gather(list(plan(ids, known, ANSWERS_PER_COMMIT)) if run.main else None)[0]
    if not run.main:
        for batch in planned:
            compute(batch)
        return []
    results = journal.compute(ids, ANSWERS_PER_COMMIT, compute, lambda done, total: run.progress(done, total, "answers"), known)
    by_answer = dict(zip(order, results, strict=True))
    return [by_answer[index] for index in range(len(answers))]


def _names_and_order(answers: Answers, digest: str, config: ReferenceConfig) -> tuple[list[str], list[int]]:
    """The journal's ids of all answers, and the order in which they are scored: similar lengths together, and the answers to one
    prompt, so that it is computed once. Each answer's token ids are in memory while it is looked at, and no longer.
    """
    names, prompts = [], []
    longest: dict[bytes, int] = {}
    for row in _each(answers):
        names.append(row_id("reference", digest, config.per_token, row.prompt_ids, row.completion_ids))
        prompts.append(hashlib.sha256(array("i", row.prompt_ids)).digest())
        longest[prompts[-1]] = max(len(row), longest.get(prompts[-1], 0))
    alike: dict[int, list[int]] = {}
    for index, prompt in enumerate(prompts):
        alike.setdefault(longest[prompt], []).append(index)
    order: list[int] = []
    for _, indices in sorted(alike.items()):
        first = {prompts[index]: index for index in reversed(indices)}
        rank = {prompt: number for number, prompt in enumerate(sorted(first, key=lambda prompt, first=first: answers[first[prompt]].prompt_ids))}
        order += sorted(indices, key=lambda index, rank=rank: (rank[prompts[index]], index))
    return names, order


def _each(answers: Answers) -> Iterator[EncodedRow]:
    return (answers[index] for index in range(len(answers)))


def _together(policy: Policy, rows: Sequence[EncodedRow], per_token: bool, run: Run) -> list[dict[str, Any]]:
    """The scores of all rows, in every process; each computes those that fall to it."""
    own = _dealt(rows)[group.rank()]
    run.count_tokens(sum(map(len, rows)))  # of all processes, as in training
    shown = own or [min(range(len(rows)), key=lambda place: len(rows[place]))]  # under ZeRO 3 the others' passes need one of it
    logps = completion_logps(policy, [rows[place] for place in shown], run.runtime.micro_batch_tokens)
    scores = [{"sum": float(row.sum()), "tokens": row.tolist() if per_token else None} for row in logps[: len(own)]]
    everyone = group.gather({"places": own, "scores": scores})
    found = {place: score for part in everyone for place, score in zip(part["places"], part["scores"], strict=True)}
    return [found[place] for place in range(len(rows))]


def _dealt(rows: Sequence[EncodedRow]) -> list[list[int]]:
    """Positions of the rows of each process: the answers to one prompt together, and about as many tokens for each."""
    prompts = prompt_groups(rows)
    shares = deal([sum(len(rows[place]) for place in places) for places in prompts], group.size())
    return [sorted(place for number in share for place in prompts[number]) for share in shares]


def _rows(pairs: Pairs, found: dict[str, list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    tokens = {"chosen": pairs.chosen.supervised, "rejected": pairs.rejected.supervised}
    for index, name in enumerate(pairs.ids):
        yield (
            {"id": name}
            | {f"{answer}_logps": found[answer][index]["sum"] for answer in ANSWERS}
            | {f"{answer}_tokens": tokens[answer][index] for answer in ANSWERS}
            | {f"{answer}_token_logps": found[answer][index]["tokens"] for answer in ANSWERS}
        )


def read_references(directory: Path, data: dict[str, Pairs]) -> References:
    """The sums that `compute_reference` wrote, for the same pairs.

    Raises:
        TrainingError: they are of other pairs, or of other tokens.
    """
    return {f"{side}/{name}": sums for side, pairs in data.items() for name, sums in _sums(directory / f"{side}.parquet", pairs).items()}


def _sums(path: Path, pairs: Pairs) -> dict[str, torch.Tensor]:
    tokens = zip(pairs.ids, pairs.chosen.supervised, pairs.rejected.supervised, strict=True)
    sums: dict[str, list[float]] = {name: [] for name in ANSWERS}
    same = True
    for row in (row for batch in table_batches(path, ROWS_AT_ONCE) for row in batch):
        same = same and (row["id"], row["chosen_tokens"], row["rejected_tokens"]) == next(tokens, None)
        for name, found in sums.items():
            found.append(row[f"{name}_logps"])
    if not same or next(tokens, None) is not None:
        raise TrainingError(
            "the reference's log-probabilities are of other pairs or of other tokens", where=str(path),
            do="compute them from the same preferences, with the same tokenizer and max_length",
        )  # fmt: skip
    return {name: torch.tensor(found, dtype=torch.float32) for name, found in sums.items()}


def is_of(directory: Path, checkpoint: Path) -> bool:
    """Whether the log-probabilities in `directory` are those of `checkpoint`, byte for byte."""
    return json.loads((directory / ABOUT).read_text())["checkpoint"] == identity(checkpoint)[1]
