"""Where the processes that hold an engine for several stages are found: sockets in a directory of this user alone. No torch.

Each has a name made from its weights and settings, and three files: NAME.sock, NAME.lock (held while one is started), NAME.log.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from alignflow.data.errors import UserError
from alignflow.data.host import started
from alignflow.data.wire import receive, send

VARIABLE = "ALIGNFLOW_ENGINES"
"""Names another directory."""
LONGEST_PATH = 100
"""Characters of a socket's path; the kernel takes 107."""
_PATIENCE_S = 5.0
_ENDS_WITHIN_S = 20.0
_LOGS_FOR_S = 7 * 86_400.0


def engine_directory() -> Path:
    """The directory of this user's engines, made where it is missing.

    Raises:
        UserError: it is another user's, or others may enter it: whoever can reach the sockets can use the models.
    """
    place = Path(os.environ.get(VARIABLE) or Path(tempfile.gettempdir()) / f"alignflow-engines-{os.getuid()}")
    with contextlib.suppress(FileExistsError):
        place.mkdir(mode=0o700, parents=True)
    found = place.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise UserError(
            "the directory of engines must belong to you alone (mode 0700)",
            where=str(place),
            do=f"remove it, or name another one by {VARIABLE}",
        )
    return place


def socket_path(name: str) -> Path:
    """The socket of a host; raises UserError where the directory's path is too long for one."""
    path = engine_directory() / f"{name}.sock"
    if len(str(path)) > LONGEST_PATH:
        raise UserError(
            f"a path of {len(str(path))} characters, and a socket's has {LONGEST_PATH} at most",
            where=str(path.parent),
            do=f"name a directory with a shorter path by {VARIABLE}",
        )
    return path


@contextlib.contextmanager
def start_lock(name: str) -> Iterator[None]:
    """Held by whoever looks for a host and starts it where there is none; the kernel frees that of a dead process."""
    file = os.open(engine_directory() / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def connected(path: Path) -> socket.socket | None:
    """A connection to the host behind a socket; None where none listens."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(path))
    except OSError:
        connection.close()
        return None
    return connection


def end_idle_hosts() -> list[str]:
    """Ask every engine of this user that nobody uses now to end, and wait until it is gone; returns the names of those that did.

    For whoever needs their memory: a GPU holds one model at a time.
    """
    ended: list[str] = []
    try:
        paths = sorted(engine_directory().glob("*.sock"))
    except UserError:  # not ours, and then no engine of ours is there
        return ended
    for path in paths:
        connection = connected(path)
        if connection is None:
            continue
        with contextlib.closing(connection), contextlib.suppress(OSError):
            connection.settimeout(_PATIENCE_S)
            send(connection, {"op": "yield"})
            reply = receive(connection)
            if reply and reply.get("ends"):
                _wait_for_end(int(reply["pid"]))
                ended.append(path.stem)
    return ended


def remove_old_logs() -> None:
    """Remove logs that no host wrote to for a week."""
    for path in engine_directory().glob("*.log"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _LOGS_FOR_S:
                path.unlink()


def _wait_for_end(pid: int) -> None:
    end = time.monotonic() + _ENDS_WITHIN_S
    while started(pid) and time.monotonic() < end:
        time.sleep(0.02)
