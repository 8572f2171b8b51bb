"""A store that several machines share: it says so itself, in store.json, and every machine reads it there."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from alignflow.data.errors import StoreError, UserError
from alignflow.data.host import Host, now_in
from alignflow.tasks.locks import Leases, Periods, any_file_lock

FIELD = "shared"


class Sharing(BaseModel):
    """How machines share a store."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    beat_s: float = Field(default=10.0, gt=0, description="Seconds between two heartbeats of a lock's holder.")
    expiry_s: float = Field(default=60.0, gt=0, description="Seconds without a heartbeat after which a lock may be taken over.")

    def leases(self, directory: Path, host: Host | None = None) -> Leases:
        """The locks of such a store."""
        return Leases(directory, Periods(self.beat_s, self.expiry_s, poll_s=min(0.5, self.beat_s)), host)


def read_sharing(file: Path) -> Sharing | None:
    """What a store.json says; None for a store of one machine. Raises StoreError where it cannot be read."""
    try:
        found = json.loads(file.read_text()).get(FIELD)
    except (OSError, ValueError) as error:
        raise StoreError(f"the store does not say whether machines share it ({error})", where=str(file), do="check the mount") from None
    return None if found is None else Sharing.model_validate(found)


def check_can_share(root: Path) -> None:
    """Refuse where leases cannot work.

    Raises:
        UserError: somebody holds a lock of this machine's kernel, or the file system does not keep to the rules.
    """
    if any_file_lock(root / "locks"):
        raise UserError("something runs in this store", where=str(root), do="stop it (`alignflow down`), then share the store")
    with tempfile.TemporaryDirectory(dir=root / "locks", prefix=".try-") as place:
        for problem in _problems(Path(place)):
            raise UserError(f"this file system cannot be shared: {problem}", where=str(root), do="use NFS 4, or another mount that can")


def _problems(place: Path) -> list[str]:
    """Which of the rules that leases and publishing stand on a file system breaks."""
    found = []
    os.close(os.open(place / "one", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    try:
        os.close(os.open(place / "one", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        found.append("a file that must not exist is created a second time")
    except FileExistsError:
        pass
    for name in ("first", "second"):
        (place / name).mkdir()
        (place / name / "file").write_text(name)
    try:
        os.rename(place / "second", place / "first")
        found.append("a directory is renamed over one that is not empty")
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            found.append(f"a rename over a directory fails in another way ({error})")
    before = now_in(place)
    if now_in(place) < before:
        found.append("its clock goes backwards")
    shutil.rmtree(place / "first")
    return found
