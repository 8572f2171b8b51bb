"""Runs a command in its own session and ends its process group when our standard input closes, because our parent is gone.

Used as `python -I -S supervise.py GRACE_SECONDS COMMAND...`. Standard library only, so that it starts fast
and survives whatever the command does. Its exit status is the command's, or 128 plus the signal.
"""

import os
import signal
import subprocess
import sys
import threading
import time


def main() -> int:
    """Start the command from the main thread, which lives as long as the command, and watch for the parent's end."""
    grace, command = float(sys.argv[1]), sys.argv[2:]
    # The child asks the kernel to kill it when we die; this tells it our id, in case we are gone before it asks.
    # Our parent is the run's process: an engine that several stages share lives as long as it does.
    environment = {**os.environ, "ALIGNFLOW_SUPERVISOR": str(os.getpid()), "ALIGNFLOW_RUN": str(os.getppid())}
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, env=environment)

    def stop(*_: object) -> None:
        if not _signal(child.pid, signal.SIGTERM):
            return
        end = time.monotonic() + grace
        while time.monotonic() < end:
            if not _signal(child.pid, 0):
                return
            time.sleep(0.05)
        _signal(child.pid, signal.SIGKILL)

    def watch() -> None:
        while os.read(0, 4096):
            pass
        stop()

    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=stop, daemon=True).start())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides and closes our input
    threading.Thread(target=watch, daemon=True).start()
    status = child.wait()
    stop()  # grandchildren that are still in the group
    return status if status >= 0 else 128 - status


def _signal(group: int, number: int) -> bool:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
