"""Names by which people call artifacts: a step (`sft`, `align.2`), `last`, and the name of a run. Each means the newest one."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from alignflow.data import catalogue
from alignflow.data.artifacts import Manifest
from alignflow.data.errors import StoreError, UserError
from alignflow.data.step_names import base_of, matching
from alignflow.tasks.store.run_records import FINISHED, RunRecord, records, written

if TYPE_CHECKING:
    from alignflow.tasks.store.artifact_store import ArtifactStore

LAST = "last"
_EARLIER = re.compile(r"(?P<name>.+)~(?P<number>[0-9]{1,6})")


def named(store: ArtifactStore, text: str, kinds: Collection[str] = ()) -> Manifest | None:
    """The artifact that a name means, or None where the text is no such name.

    A step means the artifact that the newest run took for it; without such a run, the newest of its stage. `last` means the newest run that
    came to its end, and a run's name the newest of that name; `~1` after either means the one before, and so on.

    Args:
        store: Where runs and artifacts are.
        text: What a person wrote.
        kinds: Of a run, the last artifact of one of these is meant; the last of all where it has none of them, or none are given.

    Raises:
        UserError: there are not so many runs, or the artifacts of the run are gone.
    """
    if base_of(text) in catalogue.STAGES:
        return _of_step(store, text)
    name, before = _run_and_number(text)
    runs = [run for run in records(store) if run.state in FINISHED and name in (LAST, run.asked and run.asked.name)]
    if not runs:
        if name == LAST:
            raise UserError("no run has ended yet", where=text, do="`alignflow runs` shows all runs of the store")
        return None
    if before >= len(runs):
        raise UserError(
            f"there are {len(runs)} such runs that ended", where=text, do="`alignflow runs` shows them, newest first"
        )
    return _of_run(store, runs[before], kinds, text)


def is_name(root: Path, text: str) -> bool:
    """Whether a text is a step, `last`, or the name of a run in the store at `root`; there need not be a store."""
    name, _ = _run_and_number(text)
    return (
        base_of(text) in catalogue.STAGES
        or name == LAST
        or any(run.asked and run.asked.name == name for run in written(root))
    )


def _run_and_number(text: str) -> tuple[str, int]:
    """The name in a text such as `last~1`, and which run before the newest is meant."""
    found = _EARLIER.fullmatch(text)
    return (found["name"], int(found["number"])) if found else (text, 0)


def _of_step(store: ArtifactStore, step: str) -> Manifest | None:
    for run in records(store):
        for name in reversed(matching(run.steps, step)):
            if manifest := _manifest(store, run.steps[name]):
                return manifest
    return next(store.manifests(step), None) if step in catalogue.STAGES else None


def _of_run(store: ArtifactStore, run: RunRecord, kinds: Collection[str], text: str) -> Manifest:
    there = list(_whole(store, run))
    wanted = [manifest for manifest in there if manifest.kind in kinds] or there
    if not wanted:
        raise UserError(
            f"what the run of {run.began[:16].replace('T', ' ')} UTC made is no longer in the store",
            where=text,
            do="run its recipe again",
        )
    return wanted[-1]


def _whole(store: ArtifactStore, run: RunRecord) -> Iterator[Manifest]:
    for key in run.steps.values():
        if manifest := _manifest(store, key):
            yield manifest


def _manifest(store: ArtifactStore, key: str) -> Manifest | None:
    try:
        return store.manifest(key)
    except StoreError:  # gone; one that is damaged raises: another must not be taken in its place
        return None
