"""A server that cannot start says why within seconds, and a damaged database of Prefect is set aside and made anew."""

import os
import resource
import sqlite3
import subprocess
import sys
import time

import pytest
from server_support import free_port
from system_support import REPOSITORY

from alignflow.tasks.store.artifact_store import ArtifactStore

TELLS_S = 60
"""Seconds in which the cause must be told, on a machine with other work; without such a check it takes 120 and a traceback."""


def alignflow(folder, *arguments, before=None):
    """Run a command as a person would; returns status, output and seconds."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment = {
        **outer,
        "ALIGNFLOW_HOME": str(folder / "store"),
        "HOME": str(folder),
        "PYTHONPATH": str(REPOSITORY),
        "COLUMNS": "250",
    }
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "alignflow", *arguments],
        env=environment,
        cwd=REPOSITORY,
        preexec_fn=before,
        text=True,
        timeout=400,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return done.returncode, done.stdout, time.monotonic() - begun


RUN = ("run", "recipes/tiny.yaml", "--until", "init")


@pytest.fixture
def home(tmp_path):
    folder = ArtifactStore(tmp_path / "store").root / "prefect" / "home"
    folder.mkdir(parents=True)
    return folder


def limit(which, value):
    return lambda: resource.setrlimit(which, (value, value))


@pytest.mark.parametrize(
    ("before", "what", "do"),
    [
        (limit(resource.RLIMIT_NOFILE, 60), "limit on open files is 60", "ulimit -n"),
        (limit(resource.RLIMIT_FSIZE, 200_000), "limit on file size is 200000 bytes", "ulimit -f"),
    ],
    ids=["open files", "file size"],
)
def test_a_limit_that_is_too_low_is_named(tmp_path, before, what, do):
    status, said, seconds = alignflow(tmp_path, *RUN, before=before)
    assert status == 1 and what in said and do in said and "Traceback" not in said, said
    assert seconds < TELLS_S


def test_a_full_disk_is_named(tmp_path):
    (tmp_path / "store").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(tmp_path / "store")]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs rights")
    try:
        status, said, seconds = alignflow(tmp_path, *RUN)
    finally:
        subprocess.run(["umount", str(tmp_path / "store")], check=True)
    assert status == 1 and "the disk is full" in said and "alignflow gc" in said and "Traceback" not in said, said
    assert seconds < TELLS_S


def test_a_home_that_may_not_be_made_is_named(tmp_path, home):
    home.rmdir()
    home.write_text("a file stands where the directory should be")
    status, said, seconds = alignflow(tmp_path, *RUN)
    assert (
        status == 1
        and "the Prefect server cannot start" in said
        and str(home.parent) in said
        and "Traceback" not in said
    ), said
    assert seconds < TELLS_S


@pytest.mark.parametrize("command", ["run", "up"])
def test_a_damaged_database_is_set_aside_and_the_command_goes_on(tmp_path, home, command):
    (home / "prefect.db").write_bytes(b"SQLite format 3\0" + os.urandom(50_000))
    status, said, _ = alignflow(tmp_path, *(RUN if command == "run" else ("up", "--port", str(free_port()))))
    try:
        assert status == 0 and "was damaged" in said and "It is kept as" in said, said
        (aside,) = home.glob("prefect.db.damaged-*")
        assert str(aside) in "".join(said.split("\n"))
        with sqlite3.connect(home / "prefect.db") as connection:
            assert connection.execute("PRAGMA quick_check").fetchone() == ("ok",)
    finally:
        alignflow(tmp_path, "down")


def test_a_database_of_an_unknown_version_is_found_by_the_server_and_set_aside(tmp_path, home):
    assert alignflow(tmp_path, *RUN)[0] == 0
    with sqlite3.connect(home / "prefect.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    status, said, _ = alignflow(tmp_path, *RUN, "--force", "init")
    assert status == 0 and "It is kept as" in said and list(home.glob("prefect.db.damaged-*")), said


def test_a_locked_database_costs_the_run_its_place_in_the_history_and_nothing_else(tmp_path, home):
    holder = sqlite3.connect(home / "prefect.db")
    holder.execute("BEGIN EXCLUSIVE")
    try:
        status, said, _ = alignflow(tmp_path, *RUN)
    finally:
        holder.close()
    assert status == 0 and "will not appear in the history" in said and f"{os.getpid()} (" in said, said


def test_two_runs_that_start_at_once_in_a_new_store_both_end_well(tmp_path):
    """Two servers that migrate one new database at once would break each other."""
    environment = {**os.environ, "ALIGNFLOW_HOME": str(tmp_path / "store"), "HOME": str(tmp_path)}
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", "alignflow", "run", "recipes/tiny.yaml", "--until", "init", "--set", f"seed={seed}"],
            cwd=REPOSITORY,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for seed in (1, 2)
    ]
    said = [run.communicate(timeout=280)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
