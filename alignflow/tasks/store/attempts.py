"""Attempts at one key in a shared store: each process has directories of its own, and takes over what an earlier one left.

A process that was taken for dead may live and write on. So nobody writes where another one may: the work of an attempt
that ended in order is taken by a rename, that of any other by a copy of what stood there at one moment.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from alignflow.data.host import Host, this_host

LEFT = "left"  # beside the work of an attempt that writes no more
MOST_COPIES = 3
_TOKEN = secrets.token_hex(4)


def attempt_name(key: str, host: Host | None = None) -> str:
    """The name of this process's directories for a key: the key, the host's name, process number, a random word."""
    return f"{key}@{(host or this_host()).file_name}-{os.getpid()}-{_TOKEN}"


def key_of(name: str) -> str:
    """The key that a directory below staging/ or work/ belongs to."""
    return name.partition("@")[0]


def take_over(work: Path, say: Callable[[str], None]) -> None:
    """Go on from the newest work of another attempt at the same key, if it is newer than one's own. Call it under the lock.

    Args:
        work: One's own directory, `.../work/KEY@ATTEMPT/KEY`.
        say: Hears whose work it was.
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
        say(f"goes on from a copy of the work of {whose}, which did not end in order")
    else:
        say(f"the work of {whose} changes all the time, or cannot be copied: it is not taken over")
    for other in others:  # what was taken over before has nothing that this one lacks
        if other != found:
            _remove(other)


def leave(work: Path) -> None:
    """Say that this attempt writes no more, so that the next one may have its work as it is."""
    with contextlib.suppress(FileNotFoundError):
        (work.parent / LEFT).touch()


def tidy(work: Path, others: bool) -> None:
    """Remove what stood around the work of an attempt that has published, and the work of `others` where that counts no more."""
    shutil.rmtree(work.parent, ignore_errors=True)
    for other in _others(work) if others else ():
        _remove(other)


def snapshot(source: Path, target: Path) -> bool:
    """Copy a directory that somebody may be writing to, as it stood at one moment; False, and no target, where that fails."""
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
    """When anything in a directory was last written, in nanoseconds of its file system's clock; 0 where nothing is."""
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
    """The work of other attempts at the same key; also what was left before the store was shared."""
    key, own = work.name, work.parent
    found = [path / key for path in sorted(own.parent.glob(f"{key}@*")) if path != own and (path / key).is_dir()]
    return [*found, before] if (before := _of_one_machine(work)).is_dir() else found


def _remove(other: Path) -> None:
    """Remove another attempt's work with the directory that bears its name, which that of one machine has not."""
    shutil.rmtree(other.parent if "@" in other.parent.name else other, ignore_errors=True)


def _of_one_machine(work: Path) -> Path:
    return work.parents[1] / work.name
