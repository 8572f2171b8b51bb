"""Attempts at one key in a shared store: each process has its own directories and takes over an earlier one's work.

A process that was mistaken for dead may keep writing. So no two processes write to the same place: the work of an attempt
that ended cleanly is taken by a rename, that of any other by a consistent copy.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from alignflow.data.host import Host, this_host

LEFT = "left"  # file next to the work of an attempt that has stopped writing
MOST_COPIES = 3
_TOKEN = secrets.token_hex(4)


def attempt_name(key: str, host: Host | None = None) -> str:
    """The name of this process's directories for a key: key, host name, process id, a random word."""
    return f"{key}@{(host or this_host()).file_name}-{os.getpid()}-{_TOKEN}"


def key_of(name: str) -> str:
    """The key that a directory below staging/ or work/ belongs to."""
    return name.partition("@")[0]


def take_over(work: Path, say: Callable[[str], None]) -> None:
    """Continue from the newest work of another attempt at the same key, if it is newer than our own. Call it under the lock.

    Args:
        work: Our own directory, `.../work/KEY@ATTEMPT/KEY`.
        say: Called with a message about whose work it was.
    """
    (work.parent / LEFT).unlink(missing_ok=True)
    others = _others(work)
    found = max(others, key=last_change, default=None)
    if found is None or last_change(found) <= last_change(work):
        return
    whose = found.parent.name.rpartition("@")[2]
    if found == _of_one_machine(work) or (found.parent / LEFT).exists():
        shutil.rmtree(work, ignore_errors=True)
        work.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.rename(found, work)
        _remove(found)
    elif snapshot(found, work):
        say(f"continues from a copy of the work of {whose}, which did not end cleanly")
    else:
        say(f"the work of {whose} keeps changing or cannot be copied: it is not used")
    for other in others:  # work that was taken over before has nothing that ours lacks
        if other != found:
            _remove(other)


def leave(work: Path) -> None:
    """Mark that this attempt has stopped writing, so that the next one can take its work by a rename."""
    with contextlib.suppress(FileNotFoundError):
        (work.parent / LEFT).touch()


def tidy(work: Path, others: bool) -> None:
    """Remove the directories of an attempt that has published; with `others` also the obsolete work of other attempts."""
    shutil.rmtree(work.parent, ignore_errors=True)
    for other in _others(work) if others else ():
        _remove(other)


def snapshot(source: Path, target: Path) -> bool:
    """Make a consistent copy of a directory that somebody may be writing to; returns False and leaves no target if that fails."""
    for _ in range(MOST_COPIES):
        shutil.rmtree(target, ignore_errors=True)
        with contextlib.suppress(OSError):  # shutil.Error is one
            before = _listing(source)
            shutil.copytree(source, target, copy_function=_copy_synced)
            if _listing(source) == before:
                return True
    shutil.rmtree(target, ignore_errors=True)
    return False


def last_change(directory: Path) -> int:
    """When anything in a directory was last written, in ns of its file system's clock; 0 if it is empty."""
    with contextlib.suppress(FileNotFoundError):
        return max((changed for _, changed, _ in _listing(directory).values()), default=0)
    return 0


def _listing(directory: Path) -> dict[str, tuple[int, int, int]]:
    found = {str(path.relative_to(directory)): path.stat() for path in directory.rglob("*")}
    return {name: (stat.st_size, stat.st_mtime_ns, stat.st_ino) for name, stat in found.items()}


def _copy_synced(source: str, target: str) -> str:
    shutil.copy2(source, target)
    with open(target, "rb") as file:
        os.fsync(file.fileno())
    return target


def _others(work: Path) -> list[Path]:
    """The work of other attempts at the same key, including work from before the store was shared."""
    key, own = work.name, work.parent
    found = [path / key for path in sorted(own.parent.glob(f"{key}@*")) if path != own and (path / key).is_dir()]
    return [*found, before] if (before := _of_one_machine(work)).is_dir() else found


def _remove(other: Path) -> None:
    """Remove another attempt's work and its own directory, which work from an unshared store does not have."""
    shutil.rmtree(other.parent if "@" in other.parent.name else other, ignore_errors=True)


def _of_one_machine(work: Path) -> Path:
    return work.parents[1] / work.name
