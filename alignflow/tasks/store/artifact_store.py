"""The artifact store: finds, publishes, sets aside. A directory is an artifact once its manifest stands beside it."""

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
MOST_NAMED, SHORT_KEY = 3, 12  # in a message where several match: artifacts, and digits of their keys


@dataclass(frozen=True)
class Published:
    """What `publish` did.

    Attributes:
        ref: The artifact that the store has now.
        ours: Whether it is the one that was given; otherwise another process was first.
        other_digest: The digest of ours where it differs from that of the artifact that was first; otherwise empty.
    """

    ref: ArtifactRef
    ours: bool
    other_digest: str = ""


class ArtifactStore:
    """A directory of immutable artifacts, private to its owner (mode 0700); of one machine, or shared by several.

    Args:
        root: Where it is; ALIGNFLOW_HOME by default.
        host: Another host than this one, for tests of a shared store.
        for_reading: Whether a store that cannot be written will do; `writable` then says whether it can.

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
        """Where the artifact of `key` is, or would be."""
        return self.root / "artifacts" / key

    def payload(self, ref: ArtifactRef) -> Path:
        """The path that a stage body is given for `ref`: the payload, or the directory of its part."""
        payload = self.directory(ref.key) / "payload"
        return payload / ref.part if ref.part and (payload / ref.part).is_dir() else payload

    def manifest(self, key: str) -> Manifest:
        """The checked manifest of an artifact that was found before.

        Raises:
            StoreError: the artifact is gone.
            DamagedArtifactError: the manifest is not the one that was written.
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
                do="a run sets it aside and makes it again; `alignflow verify` sets it aside too",
            ) from None

    def find(self, key: str) -> Manifest | None:
        """The manifest of a whole artifact, or None; what is damaged is set aside and `reasons` says why.

        A file whose size and time are those of the last full check is taken as it is; any other is hashed again. An
        artifact of an older alignflow, whose manifest has no seal, is hashed whole once, and sealed.
        """
        directory = self.directory(key)
        if not directory.exists():
            return None
        try:
            manifest = artifacts.read_manifest(directory)
        except (FileNotFoundError, NotADirectoryError, ValueError) as error:
            if directory.exists():  # not set aside meanwhile by another process
                self.quarantine(key, integrity.distrust(error))
            return None
        except OSError as error:  # a mount that does not answer is no damage
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
        """Re-hash every file of an artifact; return what is wrong, or an empty text. Nothing is changed."""
        try:
            manifest = artifacts.read_manifest(self.directory(key))
        except (OSError, ValueError) as error:
            return integrity.distrust(error)
        return integrity.damage_of(self.directory(key), manifest)

    def quarantine(self, key: str, why: str) -> None:
        """Set a damaged artifact aside, so that its producer runs again."""
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
        """How machines share the store; None where it is one machine's. The store itself says so, each time it is asked."""
        return sharing_of(self.root)

    def share(self, sharing: Sharing) -> None:
        """Make it a store that several machines may use from now on; there is no way back.

        Raises:
            UserError: something runs in it, or its file system cannot be shared.
        """
        check_can_share(self.root)
        content = json.loads((self.root / STORE_FILE).read_text())
        _write_synced(self.root / STORE_FILE, json.dumps({**content, SHARED: sharing.model_dump()}))

    def area(self, key: str) -> Path:
        """The staging directory of `key`: in a shared store one for each process that ever held the key's lock."""
        return self.root / "staging" / (attempt_name(key, self._host) if self.sharing else key)

    def work(self, key: str) -> Path:
        """The directory of `key` that survives a kill; in a shared store the one of this process. Its last part is the key."""
        return self.root / "work" / attempt_name(key, self._host) / key if self.sharing else self.root / "work" / key

    def stage_area(self, key: str) -> Path:
        """A fresh staging directory for `key`; what a dead run left there is removed. Call it under the lock."""
        area = self.area(key)
        shutil.rmtree(area, ignore_errors=True)
        for name in ("payload", "side"):
            (area / name).mkdir(mode=0o700, parents=True)
        return area

    def publish(self, area: Path, manifest: Manifest, force: bool = False) -> Published:
        """Make a staged artifact visible at once: sync its files, write the manifest last, rename.

        The rename fails where an artifact of the key stands, so that one of several publishers is the first, and the
        others take its artifact; with `force` the one that stands is set aside until gc.

        Raises:
            StoreError: the disk is full or a write failed; nothing that looks finished is left.
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
            first = None if force else self.find(manifest.key)  # sets it aside where it is not whole
            if first is not None:
                os.rename(area, self.root / "quarantine" / f"{manifest.key}-{time.time_ns()}-second")
                return Published(
                    first.ref(), ours=False, other_digest=manifest.digest if manifest.digest != first.digest else ""
                )
        raise StoreError(
            "other processes publish the same artifact all the time", where=manifest.key, do="run it again"
        )

    def manifests(self, stage: str = "") -> Iterator[Manifest]:
        """All manifests that can be trusted, newest first; of one stage where it is named. The others are told of."""
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
        """The artifact that a person means by a path, a step, `last`, a run's name, or the start of a key or digest; raises UserError.

        Of a run, the last artifact of one of `kinds` is meant; see `artifact_names.named`.
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
            do=f"give more of one key; the newest are {newest}",
        )

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[Hold]:
        """Hold the lock of `key`; waits for another holder, and not for a dead one."""
        while True:
            sharing = self.sharing
            with self._locks(sharing).hold(key) as hold:
                if self.sharing == sharing:  # otherwise the store was shared while we waited
                    yield hold
                    return

    @contextlib.contextmanager
    def lock_if_free(self, key: str) -> Iterator[Hold | None]:
        """Hold the lock of `key` where nobody has it; None, and no waiting, where somebody does."""
        with self._locks(self.sharing).hold_if_free(key) as hold:
            yield hold

    def forget_lock(self, name: str) -> None:
        """Remove what is left of a lock that nobody will ask for again."""
        self._locks(self.sharing).forget(name)

    def is_locked(self, key: str) -> bool:
        """Whether some process holds the lock of `key` now."""
        return self._locks(self.sharing).is_held(key)

    def _locks(self, sharing: Sharing | None) -> Locks:
        directory = self.root / "locks"
        if sharing is None:
            return FileLocks(directory)
        return Leases(directory, Periods(sharing.beat_s, sharing.expiry_s, poll_s=min(0.5, sharing.beat_s)), self._host)
