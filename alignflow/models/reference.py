"""Log-probabilities of answers under a frozen reference: computed once per (reference, answer) and read by every alignment."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from torch.utils.data import ConcatDataset

from alignflow.data.artifacts import identity
from alignflow.data.configs.training import ReferenceConfig
from alignflow.data.records import row_id, write_table
from alignflow.data.run import Run, write_json
from alignflow.models.batching import EncodedRow, prompt_groups
from alignflow.models.engines import group
from alignflow.models.generation.journal import RowJournal, plan
from alignflow.models.losses.base import Role
from alignflow.models.policy import Policy, completion_logps, load_frozen
from alignflow.models.trainers.offline_rows import OfflineRows
from alignflow.models.trainers.passes import deal
from alignflow.models.trainers.reference_scores import (
    ABOUT,
    answer_names,
    fed_by,
    mismatched_rows,
    read_references,
    read_sides,
)

ANSWERS_PER_COMMIT = 256

Answers: TypeAlias = ConcatDataset[EncodedRow]
"""The answers of train.parquet as its reader gives them, those with another prompt's answers, then those of heldout.parquet."""


def compute_reference(  # noqa: PLR0913 (each is an input of the stage)
    config: ReferenceConfig,
    *,
    checkpoint: Path,
    preferences: Path | None = None,
    unpaired: Path | None = None,
    rankings: Path | None = None,
    win_rates: Path | None = None,
    run: Run,
) -> dict[str, float | None]:
    """Score all answers of the data with `checkpoint`; answers scored before a kill, or for other data, are not scored again.

    The answers are sharded over the processes, and under ZeRO 3 the model is partitioned; the first process keeps the journal. It writes
    train.parquet and heldout.parquet, one row per answer in the order in which `config.family` reads them: sums, numbers of tokens,
    with `per_token` the log-probability of each token, and with `mismatched` the sum of another row's answer. Metrics, its alone:
    `rows`, and `logps/chosen`, `logps/rejected` and `logps/other` as means over the answers of train.parquet.

    Raises:
        TrainingError: no row is left.
    """
    group.join(run.runtime)
    policy = load_frozen(checkpoint, run.runtime, in_parts=True)
    digest = identity(checkpoint)[1]
    data = {"preferences": preferences, "unpaired": unpaired, "rankings": rankings, "win_rates": win_rates}
    fed = fed_by(config.family, data, "reference")
    sides = read_sides(fed, policy, config.max_length, run, "reference", config.mismatched)
    answers = ConcatDataset(
        [part for rows in sides.values() for part in (rows.answers, mismatched_rows(rows)) if len(part)]
    )
    scored = iter(_score(policy, answers, digest, config, run))
    if not run.main:
        return {}
    for side, rows in sides.items():
        write_table(_rows(rows, scored), "references", run.out / f"{side}.parquet")
    write_json(run.out / ABOUT, {"checkpoint": digest, "max_length": config.max_length})
    sums = read_references(run.out, {"train": sides["train"]})["train"].sums
    roles = sides["train"].role
    means = {
        f"logps/{role.name.lower()}": float(sums[roles == int(role)].mean())
        for role in Role
        if (roles == int(role)).any()
    }
    return {"rows": float(sum(map(len, sides.values()))), **means}


def _score(policy: Policy, answers: Answers, digest: str, config: ReferenceConfig, run: Run) -> list[dict[str, Any]]:
    """For each answer its `sum` and, if asked for, its `tokens`; in the order of `answers`, only in the first process."""
    names, order = _names_and_order(answers, digest, config)
    ids = [names[index] for index in order]

    def compute(batch: list[int]) -> list[dict[str, Any]]:
        return _together(policy, [answers[order[place]] for place in batch], config.per_token, run)

    journal = RowJournal(run.rows, run.note)
    known = (
        journal.known() if run.main else {}
    )  # read once: other runs write too, and all processes must follow one plan
    planned = group.gather(list(plan(ids, known, ANSWERS_PER_COMMIT)) if run.main else None)[0]
    if not run.main:
        for batch in planned:
            compute(batch)
        return []
    results = journal.compute(
        ids, ANSWERS_PER_COMMIT, compute, lambda done, total: run.progress(done, total, "answers"), known
    )
    by_answer = dict(zip(order, results, strict=True))
    return [by_answer[index] for index in range(len(answers))]


def _names_and_order(answers: Answers, digest: str, config: ReferenceConfig) -> tuple[list[str], list[int]]:
    """The journal's ids of all answers, and the order in which they are scored: similar lengths together, and the answers to one
    prompt, which is then computed once. Each answer's token ids are in memory only while it is read.
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
        by_ids = sorted((answers[index].prompt_ids, prompt) for prompt, index in first.items())
        rank = {prompt: number for number, (_, prompt) in enumerate(by_ids)}
        order += [index for _, index in sorted((rank[prompts[index]], index) for index in indices)]
    return names, order


def _each(answers: Answers) -> Iterator[EncodedRow]:
    return (answers[index] for index in range(len(answers)))


def _together(policy: Policy, rows: Sequence[EncodedRow], per_token: bool, run: Run) -> list[dict[str, Any]]:
    """The scores of all rows, in every process; each computes its shard."""
    own = _dealt(rows)[group.rank()]
    run.count_tokens(sum(map(len, rows)))  # the tokens of all processes, as in training
    shown = own or [
        min(range(len(rows)), key=lambda place: len(rows[place]))
    ]  # under ZeRO 3 the other processes' passes need one from this process
    logps = completion_logps(policy, [rows[place] for place in shown], run.runtime.micro_batch_tokens)
    scores = [{"sum": float(row.sum()), "tokens": row.tolist() if per_token else None} for row in logps[: len(own)]]
    everyone = group.gather({"places": own, "scores": scores})
    found = {place: score for part in everyone for place, score in zip(part["places"], part["scores"], strict=True)}
    return [found[place] for place in range(len(rows))]


def _dealt(rows: Sequence[EncodedRow]) -> list[list[int]]:
    """Positions of the rows of each process: the answers to one prompt together, and about the same number of tokens for each process."""
    prompts = prompt_groups(rows)
    shares = deal([sum(len(rows[place]) for place in places) for places in prompts], group.size())
    return [sorted(place for number in share for place in prompts[number]) for share in shares]


def _rows(rows: OfflineRows, scored: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The table of one split; `scored` yields its answers' scores, then those of the answers of other prompts."""
    own = [next(scored) for _ in range(len(rows.answers))]
    others = (
        {int(place): next(scored)["sum"] for place in np.flatnonzero(rows.mismatched >= 0)}
        if rows.mismatched is not None
        else {}
    )
    names = answer_names(rows)
    for place, found in enumerate(own):
        yield {
            "id": names[place],
            "tokens": int(rows.answer_tokens[place]),
            "logps": found["sum"],
            "token_logps": found["tokens"],
            "mismatched_logps": others.get(place),
        }
