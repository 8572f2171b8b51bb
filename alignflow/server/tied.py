"""The process of a temporary server, which ends with the run that started it.

Used as `python -m alignflow.server.tied DESCRIPTOR PORT`. DESCRIPTOR is the listening socket, which the run has bound and passes
on, so that nobody else can take the port. Standard input is a pipe that only the run holds open: it closes when the run ends.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time

ENDING_S = 3.0
"""Seconds after the end of the run that the server gets for a clean end; then it exits."""


def main() -> None:
    """Serve until the run ends. The watch starts before the import of Prefect, which takes seconds."""
    threading.Thread(target=_watch, name="watch", daemon=True).start()
    from alignflow.server.app import serve
    from alignflow.server.settings import ServerSettings

    login = os.environ["PREFECT_SERVER_API_AUTH_STRING"]
    serve(ServerSettings(port=int(sys.argv[2])), login, socket.socket(fileno=int(sys.argv[1])))


def _watch() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)  # during the import of Prefect this ends the process at once
    time.sleep(ENDING_S)
    os._exit(0)


if __name__ == "__main__":
    main()
