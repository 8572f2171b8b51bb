"""Names by which people call artifacts: a step (`sft`, `align.2`), `last`, and the name of a run. Each means the newest one.

Runs in small (`--smoke`) are passed over for a step and for `last` while there is another; their own names find them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from alignflow.data import catalogue
from alignflow.data.artifacts import MANIFEST, Manifest, artifact_of
from alignflow.data.errors import StoreError, UserError
from alignflow.data.step_names import RESULTS, base_of, matching
from alignflow.tasks.store.integrity import tell
from alignflow.tasks.store.run_records import FINISHED, RunRecord, records, written

if TYPE_CHECKING:
    from alignflow.tasks.store.artifact_store import ArtifactStore

LAST = "last"
_LABELLED = ("label", "select")
_ASIDE = ("reference", "split")
"""Data sets that only serve the step `align`."""
_EARLIER = re.compile(r"(?P<name>.+)~(?P<number>[0-9]{1,6})")
_KEY = re.compile(rf"({'|'.join(catalogue.STAGES)})-[0-9a-f]*")
_DIGEST = re.compile(r"[0-9a-f]{6,64}")


def named(store: ArtifactStore, text: str, kinds: Collection[str] = ()) -> Manifest | None:
    """The artifact that a name means, or None where the text is no such name.

    A step means the artifact that the newest run took for it; without such a run, the newest of its stage. `last` means the newest run that
    came to its end, and a run's name the newest of that name; `~1` after either means the one before, and so on.

    Args:
        store: Where runs and artifacts are.
        text: What a person wrote.
        kinds: Of a run, its best artifact of one of these is meant: the model of `merge`, `align`, `reward` or `sft`, in this order, then any
            other model, data with labels, the first model, any other data; of several alike the last. Where it has none of these kinds, or
            none are given, the last of all is meant.

    Raises:
        UserError: there are not so many runs, or the artifacts of the run are gone.
        DamagedArtifactError: the artifact that is meant is damaged; another is not taken in its place.
    """
    if base_of(text) in catalogue.STAGES:
        return _of_step(store, text)
    run = named_run(store, text)
    return next(_there(store, _ranked(store, run, kinds), run, text)) if run else None


def named_run(store: ArtifactStore, text: str) -> RunRecord | None:
    """The run that came to its end and that a text names: `last`, or its name; None for a step, a key, and the path of an artifact.

    Raises:
        UserError: there are not so many runs.
    """
    path = Path(text)
    if (
        base_of(text) in catalogue.STAGES
        or (path / MANIFEST).is_file()
        or (path.is_dir() and artifact_of(path.absolute()))
    ):
        return None
    name, before = _run_and_number(text)
    runs = [run for run in records(store) if run.state in FINISHED and name in (LAST, run.asked and run.asked.name)]
    if name == LAST:
        runs = [run for run in runs if not _in_small(run)] or runs
    if not runs:
        if name == LAST:
            raise UserError("no run has ended yet", where=text, do="`alignflow runs` shows all runs of the store")
        return None
    if before >= len(runs):
        raise UserError(
            f"there are {len(runs)} such runs that ended",
            where=text,
            do="`alignflow runs` shows them, newest first; `last` does not count those with --smoke beside others",
        )
    return runs[before]


def step_of_run(store: ArtifactStore, text: str, step: str) -> Manifest | None:
    """What a run took for a step or for the last round of it; None where the text names no run, or one without the step.

    Raises:
        UserError: there are not so many runs, or the artifact is gone.
        DamagedArtifactError: it is damaged.
    """
    run = named_run(store, text)
    names = (matching(run.steps, step) or matching(run.steps, base_of(step))) if run else []
    return next(_there(store, [run.steps[names[-1]]], run, text)) if run and names else None


def all_of_run(store: ArtifactStore, run: RunRecord, text: str) -> list[Manifest]:
    """What a run made or found and the store still has; raises UserError where that is nothing, DamagedArtifactError where one is damaged."""
    return list(_there(store, run.steps.values(), run, text))


def is_name(root: Path, text: str) -> bool:
    """Whether a text is a step, `last`, or the name of a run in the store at `root`; there need not be a store."""
    name, _ = _run_and_number(text)
    return (
        base_of(text) in catalogue.STAGES
        or name == LAST
        or any(run.asked and run.asked.name == name for run in written(root))
    )


def means_artifact(root: Path, text: str) -> bool:
    """Whether a text means an artifact where it could be a path or a Hub id as well: a step, `last`, `NAME~0`, the start of a key or digest.

    The bare name of a run is none: a recipe called gpt2 must not hide the model gpt2. Where there is such a run, that is told.
    """
    if _KEY.fullmatch(text) or _DIGEST.fullmatch(text) or base_of(text) in catalogue.STAGES or text == LAST:
        return True
    if _EARLIER.fullmatch(text):
        return is_name(root, text)
    if any(run.asked and run.asked.name == text and run.state in FINISHED for run in written(root)):
        tell(f"{text} is read as a path or a Hub id; for the newest run of this name write {text}~0")
    return False


def _run_and_number(text: str) -> tuple[str, int]:
    """The name in a text such as `last~1`, and which run before the newest is meant."""
    found = _EARLIER.fullmatch(text)
    return (found["name"], int(found["number"])) if found else (text, 0)


def _in_small(run: RunRecord) -> bool:
    return run.asked is not None and run.asked.smoke


def _small_ones_last(runs: Iterable[RunRecord]) -> Iterator[RunRecord]:
    small = []
    for run in runs:
        if _in_small(run):
            small.append(run)
        else:
            yield run
    yield from small


def _of_step(store: ArtifactStore, step: str) -> Manifest | None:
    for run in _small_ones_last(records(store)):
        for name in reversed(matching(run.steps, step)):
            if manifest := _manifest(store, run.steps[name]):
                return manifest
    return next(store.manifests(step), None) if step in catalogue.STAGES else None


def _ranked(store: ArtifactStore, run: RunRecord, kinds: Collection[str]) -> list[str]:
    """The keys of a run, the one that is meant first: a damaged artifact that is not meant is not read."""
    newest = list(reversed(run.steps.items()))
    wanted = [(step, key) for step, key in newest if kinds and _kind(store, key) in kinds]
    ranked = sorted(wanted, key=lambda item: _rank(item[0], _kind(store, item[1])))
    return [key for _, key in ranked + [item for item in newest if item not in wanted]]


def _rank(step: str, kind: str) -> int:
    """How far behind its best artifact one of a run stands, for a person who asks for what the run made."""
    base = base_of(step)
    if base in RESULTS:
        return RESULTS.index(base)
    if kind != "dataset":
        return len(RESULTS) + (2 if base == "init" else 0)
    return len(RESULTS) + (1 if base in _LABELLED else 4 if base in _ASIDE else 3)


def _kind(store: ArtifactStore, key: str) -> str:
    """The kind of an artifact: by the stage in its key, and by its manifest where no such stage is known; empty where it is gone."""
    stage = key.rpartition("-")[0]
    if stage in catalogue.STAGES:
        return catalogue.STAGES[stage].makes
    manifest = _manifest(store, key)
    return manifest.kind if manifest else ""


def _there(store: ArtifactStore, keys: Iterable[str], run: RunRecord, text: str) -> Iterator[Manifest]:
    """Those that the store has, each read when it is asked for; raises UserError where it has none of them."""
    gone = True
    for key in keys:
        if manifest := _manifest(store, key):
            gone = False
            yield manifest
    if gone:
        raise UserError(
            f"what the run of {run.began[:16].replace('T', ' ')} UTC made is no longer in the store",
            where=text,
            do="run its recipe again",
        )


def _manifest(store: ArtifactStore, key: str) -> Manifest | None:
    try:
        return store.manifest(key)
    except StoreError:  # gone; one that is damaged raises: another must not be taken in its place
        return None
