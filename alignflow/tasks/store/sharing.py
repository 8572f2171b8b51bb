"""Checks before several machines may share a store."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

from alignflow.data.errors import UserError
from alignflow.data.host import now_in
from alignflow.tasks.store.locks import any_file_lock


def check_can_share(root: Path) -> None:
    """Refuse a store in which leases cannot work.

    Raises:
        UserError: a process holds a kernel lock, or the file system breaks a rule.
    """
    if any_file_lock(root / "locks"):
        raise UserError(
            "something runs in this store", where=str(root), do="stop it (`alignflow down`), then share the store"
        )
    with tempfile.TemporaryDirectory(dir=root / "locks", prefix=".try-") as place:
        for problem in _problems(Path(place)):
            raise UserError(
                f"this file system cannot be shared: {problem}",
                where=str(root),
                do="use NFS 4 or another mount that supports this",
            )


def _problems(place: Path) -> list[str]:
    """The rules of leases and publishing that a file system breaks."""
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
