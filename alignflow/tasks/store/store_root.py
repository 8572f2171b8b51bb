"""Opens the directory of a store: makes a new one, recognises ours by store.json, and refuses any other directory."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import stat
from pathlib import Path
from typing import Any

from alignflow.data.artifacts import SCHEMA_VERSION
from alignflow.data.errors import StoreError, UserError
from alignflow.data.sharing import SHARED, STORE_FILE, Sharing

HOME = "ALIGNFLOW_HOME"
DIRECTORIES = (
    "artifacts",
    "staging",
    "work",
    "rows",
    "encoded",
    "locks",
    "pins",
    "quarantine",
    "runs",
    "prefect",
    "gates",
)
ANOTHER = f"set {HOME} to another directory"
_FIELDS = {"schema_version", SHARED}
_MOST_BYTES = 65536  # a store.json has fewer than 200
_UNFINISHED = re.compile(
    rf"\.{re.escape(STORE_FILE)}\.[0-9a-f]{{16}}"
)  # of a process that was killed, or is writing it now
_MOST_NAMED = 3


def home_is_set() -> bool:
    """Whether `ALIGNFLOW_HOME` names a directory; an empty or blank value names none."""
    return bool(os.environ.get(HOME, "").strip())


def default_root() -> Path:
    """`ALIGNFLOW_HOME`, or `.alignflow` in the working directory if that is not set, empty or blank."""
    return Path(os.environ[HOME] if home_is_set() else ".alignflow").absolute()


def open_root(root: Path, for_reading: bool = False) -> bool:
    """Check the directory of a store, or make a new store; returns whether it can be written.

    A new store is made if the directory is missing or empty. `store.json` is written first, so that any number of
    processes may start at once, and the next process can continue after a kill.

    Args:
        root: The directory, or a link to it.
        for_reading: Accept a store that cannot be written.

    Raises:
        UserError: the directory is not a store, was made by a newer alignflow, or cannot be written.
        StoreError: `store.json` is damaged, or the disk fails.
    """
    try:
        if not _is_ours(root):
            _make(root)
        writable = all(os.access(place, os.W_OK | os.X_OK) for place in (root, root / "artifacts") if place.exists())
        if writable:
            for name in DIRECTORIES:
                (root / name).mkdir(mode=0o700, exist_ok=True)
        elif not for_reading:
            raise PermissionError(errno.EACCES, "it is read-only, or belongs to somebody else", str(root))
        return writable
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise UserError(
            f"the store cannot be written ({error.strerror})",
            where=str(error.filename or root),
            do=f"give write permission, or {ANOTHER}",
        ) from None
    except OSError as error:
        if error.errno in (errno.EROFS, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL):
            raise UserError(f"there can be no store ({error.strerror})", where=str(root), do=ANOTHER) from None
        raise disk_error(error, root) from None


def disk_error(error: OSError, where: Path) -> StoreError:
    """The error for a failing disk."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(
            "the disk is full; nothing was published",
            where=str(where),
            do="free some space (`alignflow gc`) and run again",
        )
    return StoreError(
        f"the store cannot be written ({error})", where=str(where), do="check the disk and the permissions"
    )


def _is_ours(root: Path) -> bool:
    """Whether the directory is a store; False if one can be made. Raises like `open_root` for anything else."""
    file = root / STORE_FILE
    if os.path.lexists(file):
        _check(root, file)
        return True
    if root.is_symlink() and not root.exists():
        raise UserError(
            "the store's directory is a broken link", where=str(root), do=f"mount what it points to, or {ANOTHER}"
        )
    if not root.exists():
        return False
    foreign = sorted(name for name in os.listdir(root) if not _UNFINISHED.fullmatch(name))
    if foreign and not os.path.lexists(file):  # otherwise another process has just made it
        named = ", ".join(foreign[:_MOST_NAMED]) + (
            f" and {len(foreign) - _MOST_NAMED} more" if len(foreign) > _MOST_NAMED else ""
        )
        raise UserError(
            f"the directory is not an alignflow store: it has no {STORE_FILE} and is not empty ({named})",
            where=str(root),
            do=f"{ANOTHER}: a new one, an empty one, or an existing store. Nothing was written here",
        )
    if foreign:
        _check(root, file)
    return bool(foreign)


def _make(root: Path) -> None:
    """Write `store.json` into a new or empty directory. If another process is first, its file is checked and stays."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    file, temporary = root / STORE_FILE, root / f".{STORE_FILE}.{secrets.token_hex(8)}"
    with open(temporary, "x") as opened:
        opened.write(json.dumps({"schema_version": SCHEMA_VERSION}))
        opened.flush()
        os.fsync(opened.fileno())
    try:
        os.link(temporary, file)  # fails if the file exists, and is never visible half-written
    except FileExistsError:
        _check(root, file)
    except OSError:  # a file system without links
        if not file.exists():
            os.replace(temporary, file)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def _check(root: Path, file: Path) -> None:
    """Raise unless this alignflow can use `store.json`."""
    content = _content(root, file)
    version = content["schema_version"]
    if version > SCHEMA_VERSION:
        raise UserError(
            f"the store has schema version {version}, this alignflow knows {SCHEMA_VERSION}",
            where=str(root),
            do=f"upgrade alignflow, or {ANOTHER}",
        )
    if unknown := sorted(set(content) - _FIELDS):
        raise _damaged(root, f"it has the unknown field {unknown[0][:40]!r}")
    if content.get(SHARED) is not None:
        try:
            Sharing.model_validate(content[SHARED])
        except ValueError:
            raise _damaged(root, f"its field {SHARED!r} cannot be read") from None


def _content(root: Path, file: Path) -> dict[str, Any]:
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise _damaged(root, "it is not a file")
        with open(file, "rb") as opened:
            content = json.loads(opened.read(_MOST_BYTES))
    except FileNotFoundError:
        raise _damaged(root, "it is a broken link") from None
    except PermissionError:
        raise UserError(
            f"{STORE_FILE} cannot be read (permission denied)",
            where=str(root),
            do=f"give read permission, or {ANOTHER}",
        ) from None
    except (ValueError, RecursionError):
        raise _damaged(root, "it is not JSON" if file.stat().st_size else "it is empty") from None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise _damaged(root, "it has no valid schema_version")
    fields: dict[str, Any] = content
    return fields


def _damaged(root: Path, what: str) -> StoreError:
    """The error for a damaged `store.json`. It is not repaired automatically: a wrong guess would break the leases of a shared store."""
    shared = any(path.suffix == ".lease" for path in _entries(root / "locks"))
    whole = json.dumps({"schema_version": SCHEMA_VERSION, **({SHARED: Sharing().model_dump()} if shared else {})})
    there = sum(1 for path in _entries(root / "artifacts") if path.is_dir())
    why = f", because it has {there} artifacts" if there else ""
    return StoreError(
        f"{STORE_FILE} is damaged: {what}. Nothing was changed",
        where=str(root / STORE_FILE),
        do=f"if this is a store of alignflow{why}, stop what runs in it, replace the file's content by this line, and nothing is lost: {whole}\n"
        f"  {'Several machines have shared it: the times are the defaults. ' if shared else ''}Otherwise {ANOTHER}",
    )


def _entries(directory: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return list(directory.iterdir())
    return []
