"""Prefect's database: damage is found before a server starts on it, set aside and told; other causes are named."""

import contextlib
import errno
import os
import sqlite3
import subprocess
import sys

import pytest

from alignflow.server import history
from alignflow.server.errors import ServerError


@pytest.fixture
def database(tmp_path):
    """A database as Prefect leaves it, as far as the check looks."""
    path = tmp_path / history.NAME
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("CREATE TABLE flow_run (id INTEGER PRIMARY KEY, name TEXT)")
        connection.execute("CREATE INDEX by_name ON flow_run (name)")
        connection.executemany(
            "INSERT INTO flow_run (name) VALUES (?)", [(f"run {number}" * 20,) for number in range(500)]
        )
        connection.commit()
    return path


def damaged(content, place, length):
    return content[:place] + os.urandom(length) + content[place + length :]


DAMAGE = {
    "header": lambda content: b"\0" * 100 + content[100:],
    "schema": lambda content: damaged(content, 100, 2000),
    "middle": lambda content: damaged(content, len(content) // 2, 3000),
    "cut short": lambda content: content[: len(content) // 2],
    "another file": lambda content: b"not a database at all, but a text" * 100,
}


def test_a_whole_database_or_none_is_left_as_it_is(database, tmp_path):
    before = database.read_bytes()
    assert history.mend(tmp_path) == "" and database.read_bytes() == before
    assert history.mend(tmp_path / "new") == "" and not (tmp_path / "new" / history.NAME).exists()


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_one_is_set_aside_and_told(database, tmp_path, kind):
    content = DAMAGE[kind](database.read_bytes())
    database.write_bytes(content)
    told = history.mend(tmp_path)
    (aside,) = tmp_path.glob("prefect.db.damaged-*")
    assert str(aside) in told and "damaged" in told and aside.read_bytes() == content, "it is kept as it was"
    assert not database.exists() and history.mend(tmp_path) == ""


HOLD = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('BEGIN EXCLUSIVE'); print('held', flush=True); sys.stdin.read()"


def test_a_locked_one_is_not_taken_for_damaged_and_the_holder_is_named(database, tmp_path, monkeypatch):
    monkeypatch.setattr(history, "LOCKED_S", 0.2)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(history.LockedError, match="another process has locked") as raised:
        history.mend(tmp_path)
    holder.communicate("")
    assert database.exists() and str(holder.pid) in raised.value.do
    assert history.mend(tmp_path) == ""


def test_a_full_disk_is_named(database, tmp_path, monkeypatch):
    monkeypatch.setattr(history, "LEAST_FREE", 1 << 62)
    with pytest.raises(ServerError, match="disk is full"):
        history.mend(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_database_without_permission_is_named_and_kept(database, tmp_path):
    database.chmod(0o400)
    with pytest.raises(ServerError, match="no permission to write"):
        history.mend(tmp_path)
    assert database.exists()


@pytest.mark.parametrize(
    ("log", "what"),
    [
        (str(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))), "disk is full"),
        ("sqlite3.OperationalError: database or disk is full", "disk is full"),
        (str(OSError(errno.EMFILE, os.strerror(errno.EMFILE))), "open files"),
        ("RuntimeError: can't start new thread", "processes and threads"),
        (str(BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))), "processes and threads"),
        ("sqlite3.OperationalError: database is locked", "locked"),
        ("sqlite3.OperationalError: attempt to write a readonly database", "no permission to write"),
        ("sqlite3.DatabaseError: database disk image is malformed", "damaged"),
    ],
)
def test_the_log_of_a_server_that_did_not_start_is_explained(tmp_path, log, what):
    assert what in history.explained("it ended", tmp_path / "log", f"Traceback\n{log}\n").what


def test_a_log_that_names_no_known_cause_is_shown(tmp_path):
    error = history.explained("the server ended while it started", tmp_path / "log", "ValueError: something else")
    assert error.what == "the server ended while it started" and "something else" in error.do
