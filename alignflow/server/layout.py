"""Where the server's things lie in a store: settings, login, logs, process files, Prefect's own home."""

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
    """The directory of a store in which the server's things lie; private to its owner."""

    store: Path

    @property
    def root(self) -> Path:
        """`STORE/prefect`."""
        return self.store / "prefect"

    @property
    def prefect(self) -> Path:
        """PREFECT_HOME: the SQLite database, leases. Runs without a server use it too, so that their history stays.

        In a store that machines share each host has one: two that write to one SQLite file over a mount break it.
        """
        return self.root / f"home-{this_host().file_name}" if sharing_of(self.store) else self.alone

    @property
    def alone(self) -> Path:
        """PREFECT_HOME in a store of one machine."""
        return self.root / "home"

    @property
    def logs(self) -> Path:
        """Where server and workers write their logs."""
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
        """The settings of the last `up`; mode 0600, for a database's password may be in it."""
        return self.root / "server.json"

    @property
    def login_file(self) -> Path:
        """`user:password`; mode 0600."""
        return self.root / "login"

    def make(self) -> None:
        """Make the directories that are missing, take everybody else's rights from all of them, and drop the oldest logs."""
        for directory in (self.root, self.prefect, self.logs, self.run_logs, self.processes):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.chmod(0o700)
        for log in sorted(self.run_logs.iterdir(), key=lambda path: path.stat().st_mtime)[:-MOST_RUN_LOGS]:
            log.unlink()

    def login(self) -> str:
        """The login, as `user:password`; made at random the first time."""
        if not self.login_file.exists():
            write_private(self.login_file, f"{USER}:{secrets.token_urlsafe(18)}\n")
        self.login_file.chmod(0o600)
        return self.login_file.read_text().strip()

    def settings(self) -> ServerSettings:
        """The settings of the last `up`, or the defaults; raises UserError for a file that cannot be read."""
        if not self.settings_file.exists():
            return ServerSettings()
        try:
            return ServerSettings.model_validate_json(self.settings_file.read_text())
        except ValidationError as error:
            what = f"the remembered settings cannot be read ({error.errors()[0]['msg']})"
            raise UserError(
                what, where=str(self.settings_file), do="remove the file, and give the options again"
            ) from None

    def remember(self, settings: ServerSettings) -> None:
        """Write the settings for the next `up`."""
        write_private(self.settings_file, settings.model_dump_json(indent=1) + "\n")


def write_private(path: Path, text: str) -> None:
    """Write a file that never exists with rights for others, by a rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    os.replace(temporary, path)
