"""The artifact store: finds, publishes and quarantines artifacts. A directory is an artifact once it has its manifest."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from alignflow.data import artifacts
from alignflow.data.artifacts import MANIFEST, ArtifactRef, Manifest
from alignflow.data.durable import sync
from alignflow.data.errors import DamagedArtifactError, StoreError, UserError
from alignflow.data.host import Host
from alignflow.data.sharing import SHARED, STORE_FILE, Sharing, sharing_of
from alignflow.tasks.store import integrity
from alignflow.tasks.store.artifact_names import named
from alignflow.tasks.store.attempts import attempt_name
from alignflow.tasks.store.integrity import write_synced as _write_synced
from alignflow.tasks.store.locks import FileLocks, Hold, Leases, Locks, Periods
from alignflow.tasks.store.sharing import check_can_share
from alignflow.tasks.store.store_root import default_root, disk_error, open_root

MOST_RENAMES = 20
MOST_NAMED, SHORT_KEY = 3, 12  # in the message about several matches: artifacts, and digits of their keys


@dataclass(frozen=True)
class Published:
    """Result of `publish`.

    Attributes:
        ref: The artifact that the store has now.
        ours: Whether it is ours; otherwise another process was first.
        other_digest: Digest of our output if it differs from the artifact that was first; otherwise empty.
    """

    ref: ArtifactRef
    ours: bool
    other_digest: str = ""


class ArtifactStore:
    """A directory of immutable artifacts, private to its owner (mode 0700), on one machine or shared by several.

    Args:
        root: The directory; ALIGNFLOW_HOME by default.
        host: A different host, for tests of a shared store.
        for_reading: Accept a store that cannot be written; `writable` then says whether it can.

    Raises:
        UserError: the directory is not a store, cannot be written, or was made by a newer alignflow.
        StoreError: its `store.json` is damaged.
    """

    def __init__(self, root: Path | None = None, host: Host | None = None, for_reading: bool = False):
        self.root = (root or default_root()).absolute()
        self._host = host
        self.reasons: dict[str, str] = {}  # key -> why an artifact that was there could not be used
        self.writable = open_root(self.root, for_reading)

    def directory(self, key: str) -> Path:
        """The directory of the artifact of `key`; it may not exist."""
        return self.root / "artifacts" / key

    def payload(self, ref: ArtifactRef) -> Path:
        """The path of `ref` for a stage body: the payload, or the directory of its part."""
        payload = self.directory(ref.key) / "payload"
        return payload / ref.part if ref.part and (payload / ref.part).is_dir() else payload

    def manifest(self, key: str) -> Manifest:
        """The checked manifest of an artifact that is expected to exist.

        Raises:
            StoreError: the artifact is gone.
            DamagedArtifactError: the manifest is damaged.
        """
        try:
            return artifacts.read_manifest(self.directory(key))
        except OSError:
            raise StoreError("the artifact is gone", where=key, do="run the recipe again") from None
        except ValueError as error:
            raise DamagedArtifactError(
                integrity.distrust(error),
                key=key,
                where=str(self.directory(key)),
                do="the next run quarantines it and makes it again; `alignflow verify` quarantines it too",
            ) from None

    def find(self, key: str) -> Manifest | None:
        """The manifest of an intact artifact, or None. A damaged one is quarantined, and `reasons` says why.

        A file whose size and time match the last full check is trusted; any other is hashed again. An
        artifact of an older alignflow, whose manifest has no seal, is hashed once completely and sealed.
        """
        directory = self.directory(key)
        if not directory.exists():
            return None
        try:
            manifest = artifacts.read_manifest(directory)
        except (FileNotFoundError, NotADirectoryError, ValueError) as error:
            if directory.exists():  # another process has not quarantined it meanwhile
                self.quarantine(key, integrity.distrust(error))
            return None
        except OSError as error:  # a mount that does not answer is not damage
            raise disk_error(error, directory) from error
        try:
            damage = integrity.check(directory, manifest, whole=not manifest.seal)
            if damage:
                self.quarantine(key, damage)
                return None
            return manifest if manifest.seal else integrity.seal_old(self.root, directory, manifest)
        except OSError as error:
            raise disk_error(error, directory) from error

    def verify(self, key: str) -> str:
        """Re-hash every file of an artifact; returns what is wrong, or "". Changes nothing."""
        try:
            manifest = artifacts.read_manifest(self.directory(key))
        except (OSError, ValueError) as error:
            return integrity.distrust(error)
        return integrity.damage_of(self.directory(key), manifest)

    def quarantine(self, key: str, why: str) -> None:
        """Quarantine a damaged artifact, so that its stage runs again."""
        if not self.writable:
            self.reasons[key] = f"{why}; it was not set aside, because the store is read-only"
            return
        self.reasons[key] = f"{why}; the artifact was set aside"
        target = self.root / "quarantine" / f"{key}-{time.time_ns()}"
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.directory(key), target)
            (target / "why.txt").write_text(why + "\n")

    @property
    def sharing(self) -> Sharing | None:
        """The sharing settings, or None if the store is not shared. Read from the store each time."""
        return sharing_of(self.root)

    def share(self, sharing: Sharing) -> None:
        """Let several machines use the store from now on. This cannot be undone.

        Raises:
            UserError: something runs in the store, or its file system cannot be shared.
        """
        check_can_share(self.root)
        content = json.loads((self.root / STORE_FILE).read_text())
        _write_synced(self.root / STORE_FILE, json.dumps({**content, SHARED: sharing.model_dump()}))

    def area(self, key: str) -> Path:
        """The staging directory of `key`; in a shared store one per process that ever held the key's lock."""
        return self.root / "staging" / (attempt_name(key, self._host) if self.sharing else key)

    def work(self, key: str) -> Path:
        """The directory of `key` that survives a kill; in a shared store this process's own. Its last component is the key."""
        return self.root / "work" / attempt_name(key, self._host) / key if self.sharing else self.root / "work" / key

    def stage_area(self, key: str) -> Path:
        """A fresh staging directory for `key`; leftovers of a dead run are removed. Call it under the lock."""
        area = self.area(key)
        shutil.rmtree(area, ignore_errors=True)
        for name in ("payload", "side"):
            (area / name).mkdir(mode=0o700, parents=True)
        return area

    def publish(self, area: Path, manifest: Manifest, force: bool = False) -> Published:
        """Publish a staged artifact atomically: sync its files, write the manifest last, rename.

        The rename fails if the key already has an artifact, so one of several publishers is first and the
        others use its artifact. With `force` the existing one is set aside until gc.

        Raises:
            StoreError: the disk is full or a write failed; nothing that looks like an artifact is left.
        """
        try:
            for path in sorted(area.rglob("*")):
                if path.is_file():
                    sync(path)
            integrity.raise_schema(self.root)
            integrity.write_stats(area, manifest)
            _write_synced(area / MANIFEST, artifacts.manifest_text(manifest))
            for directory in sorted(path for path in area.rglob("*") if path.is_dir()):
                sync(directory)
            sync(area)
            return self._rename_or_take(area, manifest, force)
        except OSError as error:
            raise disk_error(error, area) from error

    def _rename_or_take(self, area: Path, manifest: Manifest, force: bool) -> Published:
        target = self.directory(manifest.key)
        for _ in range(MOST_RENAMES):
            if force:
                with contextlib.suppress(FileNotFoundError):
                    os.rename(target, self.root / "quarantine" / f"{manifest.key}-{time.time_ns()}-superseded")
            try:
                os.rename(area, target)
                sync(target.parent)
                return Published(manifest.ref(), ours=True)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            first = None if force else self.find(manifest.key)  # quarantines it if it is damaged
            if first is not None:
                os.rename(area, self.root / "quarantine" / f"{manifest.key}-{time.time_ns()}-second")
                return Published(
                    first.ref(), ours=False, other_digest=manifest.digest if manifest.digest != first.digest else ""
                )
        raise StoreError("other processes keep publishing the same artifact", where=manifest.key, do="run it again")

    def manifests(self, stage: str = "") -> Iterator[Manifest]:
        """All intact manifests, newest first, optionally of one stage. Prints a note about the others."""
        found = []
        for directory in (self.root / "artifacts").glob(f"{stage}-*" if stage else "*"):
            try:
                manifest = artifacts.read_manifest(directory)
                if not stage or manifest.stage == stage:
                    found.append(manifest)
            except OSError:
                continue
            except ValueError as error:
                integrity.tell(
                    f"{directory.name} is left out: {integrity.distrust(error)}; `alignflow verify` sets it aside"
                )
        return iter(sorted(found, key=lambda manifest: manifest.created, reverse=True))

    def resolve(self, text: str, kinds: Collection[str] = ()) -> Manifest:
        """The artifact of a path, a step, `last`, a run's name, or the start of a key or digest; raises UserError.

        A run means its best artifact of one of `kinds`; see `artifact_names.named`.
        """
        path = Path(text)
        if path.is_dir() and (artifact := artifacts.artifact_of(path.absolute())):
            return artifacts.checked_manifest(artifact)
        if (path / MANIFEST).is_file():
            return artifacts.checked_manifest(path)
        if manifest := named(self, text, kinds):
            return manifest
        matches = [
            m for m in self.manifests() if m.key.startswith(text) or (len(text) >= 6 and m.digest.startswith(text))
        ]
        if len(matches) == 1 or (matches and len({m.key for m in matches}) == 1):
            return matches[0]
        if not matches:
            raise UserError(
                f"no artifact matches {text!r}",
                where=str(self.root),
                do="`alignflow list` shows the artifacts and their keys, and `alignflow runs` the runs; a step, a run's name or `last` means the newest",
            )
        newest = ", ".join(
            f"{manifest.key[: len(manifest.stage) + 1 + SHORT_KEY]} of {manifest.created[:16]}"
            for manifest in matches[:MOST_NAMED]
        )
        raise UserError(
            f"{len(matches)} artifacts match {text!r}",
            where=str(self.root),
            do=f"type more digits of one key; the newest are {newest}",
        )

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[Hold]:
        """Hold the lock of `key`; waits for another holder unless it is dead."""
        while True:
            sharing = self.sharing
            with self._locks(sharing).hold(key) as hold:
                if self.sharing == sharing:  # otherwise the store became shared while we waited
                    yield hold
                    return

    @contextlib.contextmanager
    def lock_if_free(self, key: str) -> Iterator[Hold | None]:
        """Hold the lock of `key` if it is free; yields None without waiting if it is not."""
        with self._locks(self.sharing).hold_if_free(key) as hold:
            yield hold

    def forget_lock(self, name: str) -> None:
        """Remove the files of a lock that nobody will use again."""
        self._locks(self.sharing).forget(name)

    def is_locked(self, key: str) -> bool:
        """Whether a process holds the lock of `key` now."""
        return self._locks(self.sharing).is_held(key)

    def _locks(self, sharing: Sharing | None) -> Locks:
        directory = self.root / "locks"
        if sharing is None:
            return FileLocks(directory)
        return Leases(directory, Periods(sharing.beat_s, sharing.expiry_s, poll_s=min(0.5, sharing.beat_s)), self._host)
