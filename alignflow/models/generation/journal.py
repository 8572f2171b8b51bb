"""A journal of rows: no row is computed twice, and a kill loses only the batch in flight."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from alignflow.data.artifacts import artifact_of, canonical_json, checked_manifest, text_digest
from alignflow.data.durable import sync
from alignflow.data.host import remove_abandoned, this_host
from alignflow.data.run import Share
from alignflow.data.seals import SealError, UnsealedError, sealed, unsealed

_TEMPORARY = ".batch-"


class RowWork(NamedTuple):
    """Rows that a stage needs, the arguments of `RowJournal.compute`."""

    ids: Sequence[str]
    batch_size: int
    function: Callable[[list[int]], Sequence[Any]]
    progress: Callable[[int, int], None] | None = None


class RowJournal:
    """Results of rows on disk, one JSON file per committed batch, in a directory that survives kills.

    Each file carries a digest. Rows of a batch whose bytes changed on disk are dropped and computed again, and so are those of
    an older alignflow, whose batches had no digest; `note` gets their number.

    A row has a text id that must contain everything that its result depends on. Results are JSON values;
    they always pass through JSON, so that a resumed run sees the same bytes as an uninterrupted one. Several processes may
    write at once, also from several machines with a shared file system.

    Args:
        directory: Created if it is missing. Half-written files of dead processes are removed: those of this host, and
            files of other hosts that nobody has written to for an hour.
        note: Called with one sentence about dropped batches.
    """

    def __init__(self, directory: Path, note: Callable[[str], None] = print):
        self._directory, self._note = directory, note
        directory.mkdir(parents=True, exist_ok=True)
        remove_abandoned(directory, _TEMPORARY)

    def known(self, files: Iterable[str] | None = None) -> dict[str, Any]:
        """All committed results by row id, or those of some files; rows of a damaged batch are computed again.

        Such a batch is removed. A batch that the file system fails to read is left for the next reader.
        """
        rows: dict[str, Any] = {}
        dropped = {"whose bytes changed on disk": 0, "that carry no digest, because an older alignflow wrote them,": 0}
        damaged, old = dropped
        paths = self._directory.glob("batch-*.json") if files is None else (self._directory / name for name in files)
        for path in sorted(paths):
            with contextlib.suppress(OSError):
                try:
                    rows.update(unsealed(path.read_bytes()))
                except SealError as error:
                    dropped[old if isinstance(error, UnsealedError) else damaged] += 1
                    path.unlink(missing_ok=True)
        for what, count in dropped.items():
            if count:
                self._note(f"{count} batches of the row journal {what} were dropped: their rows are computed again")
        return rows

    def compute(
        self,
        ids: Sequence[str],
        batch_size: int,
        function: Callable[[list[int]], Sequence[Any]],
        progress: Callable[[int, int], None] | None = None,
        known: dict[str, Any] | None = None,
    ) -> list[Any]:
        """Results of the rows `ids`, in their order; `function` computes the missing ones: all but `known`, by default `known()`.

        The missing rows are planned in the given order, `batch_size` at a time, and committed batch by
        batch. `function` takes positions in `ids` and returns one JSON value for each; `progress` gets (done, total).
        """
        rows = self.known() if known is None else dict(known)
        done = sum(identity in rows for identity in ids)
        for batch in plan(ids, rows, batch_size):
            if progress:
                progress(done, len(ids))
            rows.update(self._commit(_computed(ids, batch, function)))
            done = sum(identity in rows for identity in ids) if len(set(ids)) < len(ids) else done + len(batch)
        if progress:
            progress(len(ids), len(ids))
        return [rows[identity] for identity in ids]

    def fill(self, work: RowWork, share: Share) -> int:
        """Compute and commit the rows of the shard `share`, and return how many; the results are only in the journal.

        The plan is that of an uninterrupted run, and whole batches of it are assigned to shards in turn, so a row is computed with
        the same rows for any number of shards: floating-point results may depend on a row's batch. `progress` counts only the
        rows of this shard.
        """
        planned = shared(plan(work.ids, self.known(share.known_files()), work.batch_size), share)
        now = self.known()  # an earlier attempt or another run may have written rows since the plan was made
        missing = [batch for group in planned if (batch := [index for index in group if work.ids[index] not in now])]
        total, done = sum(map(len, missing)), 0
        tell = work.progress or (lambda done, total: None)
        for batch in missing:
            tell(done, total)
            self._commit(_computed(work.ids, batch, work.function))
            done += len(batch)
        tell(total, total)
        return total

    def _commit(self, batch: dict[str, Any]) -> dict[str, Any]:
        content = sealed(batch)
        name = text_digest(canonical_json(sorted(batch)))[:32]
        temporary = self._directory / f"{_TEMPORARY}{os.getpid()}-{this_host().id}-{name}"
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self._directory / f"batch-{name}.json")
        sync(self._directory)
        return unsealed(content)


def model_identity(path: Path) -> str:
    """The part of a row's id that identifies a model: its digest in the store; empty for a path outside a store."""
    artifact = artifact_of(path)
    return checked_manifest(artifact).digest if artifact else ""


def plan(ids: Sequence[str], known: dict[str, Any], batch_size: int) -> Iterator[list[int]]:
    """Batches of positions of the rows that `known` lacks, in the given order; a repeated id is planned once."""
    seen = set(known)
    missing = []
    for index, identity in enumerate(ids):
        if identity not in seen:
            seen.add(identity)
            missing.append(index)
    for start in range(0, len(missing), batch_size):
        yield missing[start : start + batch_size]


def shared(batches: Iterable[list[int]], share: Share) -> list[list[int]]:
    """The batches of a plan for a shard: every n-th, because a plan goes from short rows to long ones."""
    return list(batches)[share.number :: share.of]


def _computed(ids: Sequence[str], batch: list[int], function: Callable[[list[int]], Sequence[Any]]) -> dict[str, Any]:
    values = function(batch)
    if len(values) != len(batch):
        raise ValueError(f"{len(values)} results for {len(batch)} rows")
    return {ids[index]: value for index, value in zip(batch, values, strict=True)}
