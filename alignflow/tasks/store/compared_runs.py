"""The runs to compare, each with its steps in the form that the report reads."""

from __future__ import annotations

from collections.abc import Sequence

from alignflow.data.artifacts import Manifest
from alignflow.data.errors import StoreError
from alignflow.data.report.body import FinishedStep
from alignflow.data.report.comparison import ComparedRun
from alignflow.tasks.store.artifact_names import named_run
from alignflow.tasks.store.artifact_store import SHORT_KEY, ArtifactStore
from alignflow.tasks.store.compare import lineage


def compared_runs(store: ArtifactStore, texts: Sequence[str], ends: Sequence[Manifest]) -> list[ComparedRun]:
    """The runs that `texts` name, in order.

    A run with a record has all steps of the record. Any other artifact stands for its lineage.

    Args:
        store: The store of runs and artifacts.
        texts: The user's texts.
        ends: The artifact of each text.

    Raises:
        StoreError: an artifact of a lineage is no longer in the store.
        DamagedArtifactError: an artifact is damaged.
    """
    found: list[ComparedRun] = []
    for text, end in zip(texts, ends, strict=True):
        steps: dict[str, Manifest] = {}
        gone = []
        record = named_run(store, text)
        for step, key in record.steps.items() if record else ():
            try:
                steps[step] = store.manifest(key)
            except StoreError:  # the rest of the run can still be compared
                gone.append(step)
        name = record.asked.name if record and record.asked else _short(end)
        finished = {
            step: FinishedStep(step, store.directory(manifest.key) / "payload")
            for step, manifest in (steps or lineage(end, store)).items()
        }
        found.append(ComparedRun(_unlike(name, text, found), end.key, finished, tuple(gone)))
    return found


def _short(manifest: Manifest) -> str:
    return manifest.key[: len(manifest.stage) + 1 + SHORT_KEY]


def _unlike(name: str, text: str, others: Sequence[ComparedRun]) -> str:
    """The name; if an earlier run has the same name, followed by the user's text, and by a number if that is equal too."""
    taken = {run.name for run in others}
    wanted = name if name not in taken else f"{name} ({text})"
    number = 2
    while wanted in taken:
        wanted, number = f"{name} ({text}, {number})", number + 1
    return wanted
