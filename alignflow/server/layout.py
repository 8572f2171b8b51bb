"""Paths of the server's files in a store: settings, login, logs, process files, Prefect's home."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from alignflow.data.errors import UserError
from alignflow.data.host import this_host
from alignflow.data.sharing import sharing_of
from alignflow.server.settings import ServerSettings

USER = "alignflow"
MOST_RUN_LOGS = 1000


@dataclass(frozen=True)
class Home:
    """The directory of a store that holds the server's files; private to its owner."""

    store: Path

    @property
    def root(self) -> Path:
        """`STORE/prefect`."""
        return self.store / "prefect"

    @property
    def prefect(self) -> Path:
        """PREFECT_HOME: the SQLite database and leases. Runs without a server use it too, so their history is kept.

        In a shared store each host has its own: two hosts that write to one SQLite file over a mount corrupt it.
        """
        return self.root / f"home-{this_host().file_name}" if sharing_of(self.store) else self.alone

    @property
    def alone(self) -> Path:
        """PREFECT_HOME in a store that is not shared."""
        return self.root / "home"

    @property
    def logs(self) -> Path:
        """Directory of the logs of the server and workers."""
        return self.root / "logs"

    @property
    def run_logs(self) -> Path:
        """One log per flow run of the workers, by the run's id."""
        return self.logs / "runs"

    @property
    def processes(self) -> Path:
        """One file per process that was started."""
        return self.root / "processes"

    @property
    def settings_file(self) -> Path:
        """The settings of the last `up`; mode 0600, because it may hold the database's password."""
        return self.root / "server.json"

    @property
    def login_file(self) -> Path:
        """`user:password`; mode 0600."""
        return self.root / "login"

    def make(self) -> None:
        """Make missing directories, make all of them private to the owner, and delete the oldest logs."""
        for directory in (self.root, self.prefect, self.logs, self.run_logs, self.processes):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.chmod(0o700)
        for log in sorted(self.run_logs.iterdir(), key=lambda path: path.stat().st_mtime)[:-MOST_RUN_LOGS]:
            log.unlink()

    def login(self) -> str:
        """The login, as `user:password`; a random one is made the first time."""
        if not self.login_file.exists():
            write_private(self.login_file, f"{USER}:{secrets.token_urlsafe(18)}\n")
        self.login_file.chmod(0o600)
        return self.login_file.read_text().strip()

    def settings(self) -> ServerSettings:
        """The settings of the last `up`, or the defaults; raises UserError if the file cannot be read."""
        if not self.settings_file.exists():
            return ServerSettings()
        try:
            return ServerSettings.model_validate_json(self.settings_file.read_text())
        except ValidationError as error:
            what = f"cannot read the remembered settings ({error.errors()[0]['msg']})"
            raise UserError(
                what, where=str(self.settings_file), do="remove the file and pass the options again"
            ) from None

    def remember(self, settings: ServerSettings) -> None:
        """Write the settings for the next `up`."""
        write_private(self.settings_file, settings.model_dump_json(indent=1) + "\n")


def write_private(path: Path, text: str) -> None:
    """Write a private file by rename, so that others can never read it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    os.replace(temporary, path)
