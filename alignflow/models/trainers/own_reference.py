"""The scores of a reference that is the policy itself before training: computed at the start, and kept for a resumed run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from alignflow.data.artifacts import file_digest
from alignflow.data.run import Run
from alignflow.models.batching import EncodedRow
from alignflow.models.engines import group
from alignflow.models.policy import Policy
from alignflow.models.trainers.offline_rows import OfflineRows
from alignflow.models.trainers.passes import passes
from alignflow.models.trainers.reference_scores import References, Scores, mismatched_at

REFERENCE_FILE = "reference_logps"


def own_scores(model: Policy, data: dict[str, OfflineRows], per_token: bool, run: Run) -> References:
    """The policy's scores of every answer before training, in every process; an adapter is switched off."""
    kept = _kept(run)
    if not group.anywhere(kept is None):
        assert kept is not None
        return _of_tensors(load_file(kept))
    found: dict[str, torch.Tensor] = {}
    with model.adapter.off() if model.adapter else nullcontext():
        for done, (side, rows) in enumerate(data.items()):
            run.progress(done, len(data), "reference passes")
            found |= {f"{side}/{name}": values for name, values in _scores(model, rows, per_token, run).items()}
            run.count_tokens(sum(rows.lengths))
    if run.main:
        run.work.mkdir(parents=True, exist_ok=True)
        temporary = run.work / f"{REFERENCE_FILE}.tmp"
        save_file(found, temporary)
        os.replace(temporary, run.work / f"{REFERENCE_FILE}-{file_digest(temporary)}.safetensors")
    return _of_tensors(found)


def _of_tensors(found: dict[str, torch.Tensor]) -> References:
    sides = sorted({name.partition("/")[0] for name in found})
    return {
        side: Scores(found[f"{side}/sums"], found.get(f"{side}/tokens"), found.get(f"{side}/mismatched"))
        for side in sides
    }


def _kept(run: Run) -> Path | None:
    """The file of an earlier start, whose name has the digest of its bytes; None if there is no undamaged one."""
    for path in sorted(run.work.glob(f"{REFERENCE_FILE}-*.safetensors")):
        if path.stem == f"{REFERENCE_FILE}-{file_digest(path)}":
            return path
        if run.main:
            run.note("the reference's kept log-probabilities are damaged: they are computed again")
    return None


@torch.no_grad()
def _scores(policy: Policy, rows: OfflineRows, per_token: bool, run: Run) -> dict[str, torch.Tensor]:
    """The tensors of `Scores` for one split, in every process. The rows are sharded over the processes; the answers of a row are in
    one pass, where they share their prompt, also with their mismatched answers.
    """
    count = len(rows.answers)
    starts = np.concatenate([[0], rows.answer_tokens.cumsum()])
    sums, tokens = torch.zeros(count), torch.zeros(int(starts[-1]) if per_token else 0)
    beside = np.full(count, -1) if rows.mismatched is None else rows.mismatched
    of_others = torch.zeros(count)
    for own in passes(_lengths(rows, beside), run.runtime.micro_batch_tokens):
        places, _ = rows.places(own.rows)
        with_other = places[beside[places] >= 0]
        answers = [rows.answers[int(place)] for place in places]
        found = policy.token_statistics([*answers, *mismatched_at(rows, with_other)])
        if not own.counts:
            continue
        of_answers, of_beside = found.sums().cpu().split([len(places), len(with_other)])
        sums[torch.from_numpy(places)] = of_answers
        of_others[torch.from_numpy(with_other)] = of_beside
        if per_token:
            of_tokens = found.values["logps"].cpu().split(found.counts().long().tolist())
            for place, logps in zip(places, of_tokens[: len(places)], strict=True):
                tokens[int(starts[place]) : int(starts[place + 1])] = logps
    shared = {"sums": group.sum_tensor(sums)}
    if per_token:
        shared["tokens"] = group.sum_tensor(tokens)
    if rows.mismatched is not None:
        known = torch.from_numpy(beside >= 0)
        shared["mismatched"] = group.sum_tensor(of_others).masked_fill(~known, float("nan"))
    return shared


def _lengths(rows: OfflineRows, beside: np.ndarray) -> Sequence[int]:
    """(rows,): tokens of each row in one pass, with the answers at `beside` after the prompts of its own (-1: none)."""
    if rows.mismatched is None:
        return rows.lengths
    more = np.where(beside >= 0, rows.answer_tokens[beside], 0)[rows.members]
    return (np.asarray(rows.lengths) + np.diff(np.concatenate([[0], more.cumsum()])[rows.starts])).tolist()


@torch.no_grad()
def mismatched_sums(policy: Policy, rows: OfflineRows, places: Sequence[int], run: Run) -> torch.Tensor:
    """(places,) fp32, in every process: the summed log-probability of another prompt's answer after the prompt of each answer; NaN
    where there is none."""
    known = np.array(
        [number for number, place in enumerate(places) if rows.mismatched is not None and rows.mismatched[place] >= 0],
        dtype=np.int64,
    )
    sums = torch.full((len(places),), float("nan"))
    if len(known):
        at = np.asarray(places, dtype=np.int64)[known]
        lengths = [rows.mismatched_length(int(place)) for place in at]
        sums[torch.from_numpy(known)] = answer_sums(policy, mismatched_at(rows, at), lengths, run)
    return sums


@torch.no_grad()
def answer_sums(policy: Policy, answers: Sequence[EncodedRow], lengths: Sequence[int], run: Run) -> torch.Tensor:
    """(answers,) fp32, in every process: summed log-probabilities of answers; each is read when its pass runs.

    Args:
        policy: The model.
        answers: Each with its prompt.
        lengths: Tokens of each, its prompt included.
        run: For the limit of a forward pass.
    """
    sums = torch.zeros(len(answers))
    for own in passes(lengths, run.runtime.micro_batch_tokens):
        found = policy.token_statistics([answers[place] for place in own.rows]).sums().cpu()
        if own.counts:
            sums[own.rows] = found
    return group.sum_tensor(sums)
