"""Names for artifacts: a step (`sft`, `align.2`), `last`, and the name of a run. Each means the newest one.

A step and `last` skip `--smoke` runs if there is another run; a run's own name finds them.
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
"""Data sets that only the step `align` uses."""
_EARLIER = re.compile(r"(?P<name>.+)~(?P<number>[0-9]{1,6})")
_KEY = re.compile(rf"({'|'.join(catalogue.STAGES)})-[0-9a-f]*")
_DIGEST = re.compile(r"[0-9a-f]{6,64}")


def named(store: ArtifactStore, text: str, kinds: Collection[str] = ()) -> Manifest | None:
    """The artifact that a name means, or None if the text is not such a name.

    A step means the artifact that the newest run used for it; without such a run, the newest of its stage. `last` means the newest run that
    ended normally, and a run's name the newest of that name; `~1` after either means the one before, and so on.

    Args:
        store: The store of runs and artifacts.
        text: The user's text.
        kinds: For a run, its best artifact of one of these kinds: the model of `merge`, `align`, `reward` or `sft`, in this order, then any
            other model, labelled data, the first model, any other data; the last of several equals. If it has none of these kinds, or
            none are given, its last artifact.

    Raises:
        UserError: there are too few runs, or the artifacts of the run are gone.
        DamagedArtifactError: the artifact is damaged; no other one is used instead.
    """
    if base_of(text) in catalogue.STAGES:
        return _of_step(store, text)
    run = named_run(store, text)
    return next(_there(store, _ranked(store, run, kinds), run, text)) if run else None


def named_run(store: ArtifactStore, text: str) -> RunRecord | None:
    """The ended run that a text names, as `last` or by its name; None for a step, a key, and the path of an artifact.

    Raises:
        UserError: there are too few runs.
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
            f"only {len(runs)} such runs have ended",
            where=text,
            do="`alignflow runs` shows them, newest first; `last` skips --smoke runs if there are others",
        )
    return runs[before]


def step_of_run(store: ArtifactStore, text: str, step: str) -> Manifest | None:
    """The artifact that a run used for a step or its last round; None if the text names no run, or one without the step.

    Raises:
        UserError: there are too few runs, or the artifact is gone.
        DamagedArtifactError: the artifact is damaged.
    """
    run = named_run(store, text)
    names = (matching(run.steps, step) or matching(run.steps, base_of(step))) if run else []
    return next(_there(store, [run.steps[names[-1]]], run, text)) if run and names else None


def all_of_run(store: ArtifactStore, run: RunRecord, text: str) -> list[Manifest]:
    """The artifacts of a run that the store still has; raises UserError if there are none, DamagedArtifactError if one is damaged."""
    return list(_there(store, run.steps.values(), run, text))


def is_name(root: Path, text: str) -> bool:
    """Whether a text is a step, `last`, or the name of a run in the store at `root`; the store need not exist."""
    name, _ = _run_and_number(text)
    return (
        base_of(text) in catalogue.STAGES
        or name == LAST
        or any(run.asked and run.asked.name == name for run in written(root))
    )


def means_artifact(root: Path, text: str) -> bool:
    """Whether a text that could also be a path or Hub id means an artifact: a step, `last`, `NAME~0`, the start of a key or digest.

    A run's bare name does not: a recipe called gpt2 must not hide the model gpt2. If there is such a run, a note says so.
    """
    if _KEY.fullmatch(text) or _DIGEST.fullmatch(text) or base_of(text) in catalogue.STAGES or text == LAST:
        return True
    if _EARLIER.fullmatch(text):
        return is_name(root, text)
    if any(run.asked and run.asked.name == text and run.state in FINISHED for run in written(root)):
        tell(f"{text} is read as a path or a Hub id; for the newest run of this name write {text}~0")
    return False


def _run_and_number(text: str) -> tuple[str, int]:
    """The name in a text such as `last~1`, and the number of runs before the newest."""
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
    """The keys of a run, best first, so that a damaged artifact that is not meant is not read."""
    newest = list(reversed(run.steps.items()))
    wanted = [(step, key) for step, key in newest if kinds and _kind(store, key) in kinds]
    ranked = sorted(wanted, key=lambda item: _rank(item[0], _kind(store, item[1])))
    return [key for _, key in ranked + [item for item in newest if item not in wanted]]


def _rank(step: str, kind: str) -> int:
    """The rank of an artifact among the results of its run; lower is better."""
    base = base_of(step)
    if base in RESULTS:
        return RESULTS.index(base)
    if kind != "dataset":
        return len(RESULTS) + (2 if base == "init" else 0)
    return len(RESULTS) + (1 if base in _LABELLED else 4 if base in _ASIDE else 3)


def _kind(store: ArtifactStore, key: str) -> str:
    """The kind of an artifact: from the stage in its key, or from its manifest if the stage is unknown; empty if it is gone."""
    stage = key.rpartition("-")[0]
    if stage in catalogue.STAGES:
        return catalogue.STAGES[stage].makes
    manifest = _manifest(store, key)
    return manifest.kind if manifest else ""


def _there(store: ArtifactStore, keys: Iterable[str], run: RunRecord, text: str) -> Iterator[Manifest]:
    """The manifests that the store has, read lazily; raises UserError if it has none of them."""
    gone = True
    for key in keys:
        if manifest := _manifest(store, key):
            gone = False
            yield manifest
    if gone:
        raise UserError(
            f"the artifacts of the run of {run.began[:16].replace('T', ' ')} UTC are no longer in the store",
            where=text,
            do="run its recipe again",
        )


def _manifest(store: ArtifactStore, key: str) -> Manifest | None:
    try:
        return store.manifest(key)
    except StoreError:  # gone; a damaged one raises, because no other may replace it
        return None
