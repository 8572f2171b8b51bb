"""A journal of rows: what was computed is never computed again, and a kill loses the batch in flight alone."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from alignflow.data.artifacts import artifact_of, canonical_json, read_manifest, text_digest
from alignflow.data.host import now_in, this_host

_TEMPORARY = ".batch-"
FRESH_S = 3600.0  # a batch takes milliseconds to write


class RowJournal:
    """Results of rows on disk, one JSON file per committed batch, in a directory that survives kills.

    A row is known by a text id that must contain everything that its result depends on. Results are JSON values;
    they always pass through JSON, so that a resumed run sees the same bytes as an undisturbed one.

    Args:
        directory: Made where it is missing. What dead processes left half-written in it is removed: those of this host, and
            files of other hosts that nobody wrote to for an hour.
    """

    def __init__(self, directory: Path):
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._clean()

    def known(self) -> dict[str, Any]:
        """All committed results by row id; a damaged batch is removed, so that its rows are computed again."""
        rows: dict[str, Any] = {}
        for path in sorted(self._directory.glob("batch-*.json")):
            batch = _read_batch(path)
            if batch is None:
                path.unlink(missing_ok=True)
            else:
                rows.update(batch)
        return rows

    def compute(
        self, ids: Sequence[str], batch_size: int, function: Callable[[list[int]], Sequence[Any]],
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Any]:  # fmt: skip
        """Results of the rows `ids`, in their order; `function` computes the missing ones.

        The rows that are missing are planned in the given order, `batch_size` at a time, and committed batch by
        batch. `function` takes positions in `ids` and returns one JSON value for each; `progress` gets (done, total).
        """
        rows = self.known()
        done = sum(identity in rows for identity in ids)
        for batch in plan(ids, rows, batch_size):
            if progress:
                progress(done, len(ids))
            values = function(batch)
            if len(values) != len(batch):
                raise ValueError(f"{len(values)} results for {len(batch)} rows")
            rows.update(self._commit({ids[index]: value for index, value in zip(batch, values, strict=True)}))
            done = sum(identity in rows for identity in ids) if len(set(ids)) < len(ids) else done + len(batch)
        if progress:
            progress(len(ids), len(ids))
        return [rows[identity] for identity in ids]

    def _commit(self, batch: dict[str, Any]) -> dict[str, Any]:
        content = json.dumps(batch, ensure_ascii=False, allow_nan=False)
        name = text_digest(canonical_json(sorted(batch)))[:32]
        temporary = self._directory / f"{_TEMPORARY}{os.getpid()}-{this_host().id}-{name}"
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self._directory / f"batch-{name}.json")
        directory = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        return json.loads(content)

    def _clean(self) -> None:
        found = list(self._directory.glob(f"{_TEMPORARY}*"))
        now = now_in(self._directory) if found else 0.0
        for path in found:
            pid, _, rest = path.name.removeprefix(_TEMPORARY).partition("-")
            with contextlib.suppress(FileNotFoundError):  # its writer may commit it now
                fresh = _alive(pid) if rest.partition("-")[0] == this_host().id else now - path.stat().st_mtime < FRESH_S
                if not fresh:
                    path.unlink()


def model_identity(path: Path) -> str:
    """What tells one model from another in a row's id: its digest in the store; empty for a path outside one."""
    artifact = artifact_of(path)
    return read_manifest(artifact).digest if artifact else ""


def plan(ids: Sequence[str], known: dict[str, Any], batch_size: int) -> Iterator[list[int]]:
    """Batches of positions of the rows that `known` lacks, in the given order; an id that stands twice is planned once."""
    seen = set(known)
    missing = []
    for index, identity in enumerate(ids):
        if identity not in seen:
            seen.add(identity)
            missing.append(index)
    for start in range(0, len(missing), batch_size):
        yield missing[start : start + batch_size]


def _read_batch(path: Path) -> dict[str, Any] | None:
    """The rows of a batch file; None where it is damaged or gone."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return rows if isinstance(rows, dict) else None


def _alive(pid: str) -> bool:
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return int(pid) != os.getpid()
