"""Runs a stage call once: under the lock of its key, finds its artifact in the store, or runs it in a child and publishes."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import alignflow
from alignflow.data import artifacts, catalogue
from alignflow.data.artifacts import ArtifactRef, Manifest
from alignflow.data.errors import AlignflowError, DamagedArtifactError
from alignflow.data.licences import licences_by_path
from alignflow.tasks.keys.fingerprint import fingerprint
from alignflow.tasks.launch.call import StageCall
from alignflow.tasks.launch.child import run_child, tell_note, tell_waiting
from alignflow.tasks.launch.devices import devices_of, held
from alignflow.tasks.launch.environment import needs_the_hub
from alignflow.tasks.launch.shards import with_costs
from alignflow.tasks.store import attempts
from alignflow.tasks.store.artifact_store import ArtifactStore, Published
from alignflow.tasks.store.locks import Hold
from alignflow.tasks.store.pins import ROWS, Pins, stored_paths, using

LIBRARIES = (
    "torch",
    "transformers",
    "deepspeed",
    "peft",
    "datasets",
    "prefect",
    "tokenizers",
    "safetensors",
    "pandas",
    "pyarrow",
    "numpy",
)

SPENDING = (
    "requests",
    "from_journal",
    "retries",
    "prompt_tokens",
    "completion_tokens",
    "uncounted",
    "unusable",
    "too_long",
    "price",
)
"""Cost fields that `Run.spend` adds for a stage that calls endpoints."""

Results = list[dict[str, Any]]
Ahead = Callable[[StageCall, dict[str, Any]], Results]
"""Fills the row journal of a call before its worker starts; takes the call and the worker's spec, returns each process's result."""


def run_stage(
    call: StageCall,
    store: ArtifactStore,
    force: bool = False,
    warn: Callable[[str], None] = print,
    ahead: Ahead | None = None,
) -> tuple[ArtifactRef, bool]:
    """Return the artifact of `call` and whether this call made it; `ahead` runs under the same lock.

    If two processes call this with one key at the same time, the work is done once: the second waits and finds it. In a
    shared store, a process that was mistaken for dead goes on, and the first of the two to publish makes the artifact
    of both; `warn` reports it. A failed stage leaves its log under `runs/`, its checkpoints and rows, and no artifact.

    Raises:
        AlignflowError: the stage failed.
    """
    while True:
        if store.is_locked(call.key):
            tell_waiting(call.name, "another run is making the same artifact, which this run will use")
        with store.lock(call.key) as hold, using(store, call.key, *_needs(call, store)) as pins:
            if not force and (found := store.find(call.key)):
                return found.ref(), False
            _check_inputs(call, store)
            attempt = _Attempt(call, store, force, warn, hold, pins, ahead)
            try:
                return attempt.make()
            except AlignflowError as error:
                keep_log(call, store, store.area(call.key))
                if not hold.lost():
                    raise
                warn(
                    f"{call.name} lost its lock to another process and failed ({error.what}): looking for the artifact again"
                )


def _needs(call: StageCall, store: ArtifactStore) -> set[str]:
    """Pins of what a call reads: its inputs, artifacts that its config names by path, and its row journal."""
    inputs = {ref.key for ref in call.inputs.values()}
    return inputs | stored_paths(store, call.config) | {f"{ROWS}{rows_name(call.stage, call.components)}"}


def _check_inputs(call: StageCall, store: ArtifactStore) -> None:
    """Raise DamagedArtifactError if an input was removed after its reference was made; pin the inputs first."""
    for ref in call.inputs.values():
        if not store.directory(ref.key).is_dir():
            raise DamagedArtifactError(
                "an input is no longer in the store",
                key=ref.key,
                where=call.name,
                do="the stage that makes it runs again",
            )


@dataclass(frozen=True)
class _Attempt:
    """One attempt to make the artifact of a call, under the lock of its key."""

    call: StageCall
    store: ArtifactStore
    force: bool
    warn: Callable[[str], None]
    hold: Hold
    pins: Pins
    ahead: Ahead | None

    def make(self) -> tuple[ArtifactRef, bool]:
        """Run the stage in a child and publish its output; returns whether that became the artifact."""
        call, store = self.call, self.store
        area, work, shared = store.stage_area(call.key), store.work(call.key), store.sharing is not None
        if self.force:
            shutil.rmtree(work, ignore_errors=True)
        elif shared:
            attempts.take_over(work, self.warn)
        spec = make_spec(call, store, area, self.force)
        try:
            shares = self.ahead(call, spec) if self.ahead else []
            with held(
                devices_of(call.stage, call.runtime),
                waits=lambda gpu: tell_waiting(call.name, f"another stage uses GPU {gpu}"),
            ) as locks:
                result = with_spending(
                    with_costs(run_child(call.name, spec, area, call.timeout_s, (*locks, *self.pins.files)), shares)
                )
        finally:
            if shared:
                attempts.leave(work)
        for note in result.get("notes", ()):
            self.warn(f"{call.name}: {note}")
            tell_note(call.name, note)
        published = store.publish(area, make_manifest(call, store, area, result), self.force)
        self._tell(published)
        shutil.rmtree(work, ignore_errors=True)
        if shared:
            attempts.tidy(work, others=not self.hold.lost())
        return published.ref, published.ours

    def _tell(self, published: Published) -> None:
        """Warn if two processes did this work, because one seemed dead to the other."""
        if published.ours and self.hold.lost():
            self.warn(f"{self.call.name}: another process took the lock meanwhile; it will use this artifact")
        if not published.ours:
            self.warn(
                f"{self.call.name}: another process was first to publish {published.ref.key}: its artifact is used"
            )
        if published.other_digest:
            self.warn(
                f"{self.call.name}: two processes made {published.ref.key} with different results: {published.ref.digest} is the "
                f"artifact, {published.other_digest} was set aside"
            )


def with_spending(result: dict[str, Any]) -> dict[str, Any]:
    """The result of a stage with the calls to endpoints and their cost among its metrics, so that gates can limit them."""
    spent = {f"cost/{name}": result["cost"][name] for name in SPENDING if result["cost"].get(name) is not None}
    return {**result, "metrics": {**(result["metrics"] or {}), **spent}} if spent else result


def make_spec(call: StageCall, store: ArtifactStore, area: Path, force: bool = False) -> dict[str, Any]:
    """The worker's spec, with paths instead of references. A forced stage gets a new row journal and new token ids, so it finds nothing."""
    row = catalogue.STAGES[call.stage]
    work = store.work(call.key)
    rows = work / "rows" if force else store.root / "rows" / rows_name(call.stage, call.components)
    encoded = work / "encoded" if force else store.root / "encoded"
    for directory in (work, rows):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.utime(rows)  # gc goes by the time of last use
    paths = {name: store.payload(ref) for name, ref in call.inputs.items()}
    inputs: dict[str, Any] = {name: str(paths[name]) if name in paths else None for name in row.single_inputs}
    if row.many_inputs:
        inputs[row.many_inputs] = {name: str(path) for name, path in paths.items() if name not in row.single_inputs}
    return {
        "stage": call.stage,
        "config": pinned(call.config, call.components),
        "runtime": call.runtime.model_dump(mode="json"),
        "inputs": inputs,
        "out": str(area / "payload"),
        "side": str(area / "side"),
        "work": str(work),
        "rows": str(rows),
        "encoded": str(encoded),
        "hub": needs_the_hub(call.components, call.config, paths.values()),
    }


def pinned(config: Any, components: Mapping[str, Any], place: str = "config") -> Any:
    """The config with the commit of every Hub id: the child loads what the key was computed from."""
    if isinstance(config, list):
        return [pinned(item, components, f"{place}.{index}") for index, item in enumerate(config)]
    if not isinstance(config, dict):
        return config
    found = {name: pinned(value, components, f"{place}.{name}") for name, value in config.items()}
    digest = components.get(f"{place}.path")
    if "revision" in found and isinstance(digest, str) and digest.startswith("hub:"):
        found["revision"] = digest.rpartition("@")[2]
    return found


def rows_name(stage: str, components: Mapping[str, Any]) -> str:
    """The row journal, shared by all calls with the same code and runtime; a row's id covers the rest."""
    shared = {name: value for name, value in components.items() if name.startswith(("version.", "resolved."))}
    return f"{stage}-{artifacts.text_digest(artifacts.canonical_json(shared))[:16]}"


def make_manifest(call: StageCall, store: ArtifactStore, area: Path, result: dict[str, Any]) -> Manifest:
    """The manifest of a finished stage; hashes its output."""
    files, side = (
        {name: artifacts.file_digest(place / name) for name in artifacts.payload_files(place)}
        for place in (area / "payload", area / "side")
    )
    row = catalogue.STAGES[call.stage]
    versions = {
        name.removeprefix("version."): str(value)
        for name, value in call.components.items()
        if name.startswith("version.")
    }
    return Manifest(
        kind=row.makes,
        key=call.key,
        digest=artifacts.digest_of(files),
        stage=call.stage,
        files=files,
        side=side,
        parts=artifacts.part_digests(files),
        components=call.components,
        config=call.config,
        inputs=call.inputs,
        versions={"alignflow": alignflow.__version__, **versions},
        fingerprint=fingerprint("stages", call.stage),
        libraries=library_versions(),
        runtime=call.runtime.model_dump(),
        seed=call.config.get("seed"),
        licences=licences(call, store),
        metrics=result["metrics"],
        warnings=result["warnings"],
        cost=result["cost"],
        created=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )


def library_versions() -> dict[str, str]:
    """Installed versions of the libraries that affect results."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def licences(call: StageCall, store: ArtifactStore) -> dict[str, str]:
    """Licences of models and data that went into a call: its inputs', and those in its config."""
    found: dict[str, str] = {}
    for ref in call.inputs.values():
        found.update(store.manifest(ref.key).licences)
    return licences_by_path(_stated(call.config), found)


def _stated(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Each path of a config that has a licence, with that licence."""
    if config.get("path") and isinstance(config.get("licence"), str):
        yield config["path"], config["licence"]
    for value in config.values():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict):
                yield from _stated(item)


def keep_log(call: StageCall, store: ArtifactStore, area: Path) -> None:
    """Copy the log of a failed stage to a place that the next attempt does not remove."""
    log = area / "side" / "log.txt"
    if log.exists():
        shutil.copy(log, store.root / "runs" / f"{call.key}.log")
