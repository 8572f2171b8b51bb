"""Processes that work on chunks: results in order, errors as they were, no process left behind."""

import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import forkserver
from pathlib import Path

import pytest

from alignflow.data import row_workers
from alignflow.data.errors import DataError, StageError
from alignflow.data.row_workers import Workers


def double(number):
    if number == 13:
        raise DataError("thirteen", where="here", do="count on")
    return 2 * number, os.getpid()


def end(number):
    os._exit(3)


def test_few_chunks_start_no_process():
    with Workers(2) as workers:
        assert list(workers.map(double, ((number,) for number in range(row_workers.FEW)))) == [
            (2 * number, os.getpid()) for number in range(row_workers.FEW)
        ]


def test_results_of_processes_come_in_order_and_an_error_is_the_one_that_was_raised(monkeypatch):
    monkeypatch.setattr(row_workers, "FEW", 2)
    taken = []

    def jobs():
        for number in range(40):
            taken.append(number)
            yield (number,)

    found = []
    with Workers(2) as workers:
        with pytest.raises(DataError) as error:
            for each in workers.map(double, jobs()):
                found.append(each)
                assert len(taken) - len(found) <= row_workers.AHEAD * 2 + 1, "jobs are taken as they are needed"
        assert (error.value.what, error.value.where, error.value.do) == ("thirteen", "here", "count on")
    assert [value for value, _ in found] == [2 * number for number in range(13)]
    assert found[1][1] == os.getpid() != found[2][1]


def test_a_process_that_dies_is_said(monkeypatch):
    monkeypatch.setattr(row_workers, "FEW", 0)
    with Workers(2) as workers, pytest.raises(StageError, match="a process that works on rows died"):
        list(workers.map(end, [(1,), (2,)]))


def test_a_process_that_died_before_the_next_job_is_said(monkeypatch):
    monkeypatch.setattr(row_workers, "FEW", 0)
    with Workers(2) as workers, pytest.raises(StageError, match="a process that works on rows died"):
        for _, process in workers.map(double, ((number,) for number in range(12))):
            os.kill(process, signal.SIGKILL)
            time.sleep(0.5)


def test_a_server_that_dies_is_said(monkeypatch):
    monkeypatch.setattr(row_workers, "FEW", 0)
    with Workers(2) as workers, pytest.raises(StageError, match="a process that works on rows died"):
        monkeypatch.setattr(row_workers, "ProcessPoolExecutor", dying_server)
        list(workers.map(double, [(1,), (2,)]))


def dying_server(*arguments):
    os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)
    return ProcessPoolExecutor(*arguments)


def test_without_semaphores_no_process_is_started(monkeypatch):
    def refuse(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(row_workers, "FEW", 0)
    monkeypatch.setattr(row_workers, "ProcessPoolExecutor", refuse)
    said = []
    with Workers(2, said.append) as workers:
        for _ in range(2):
            assert list(workers.map(double, [(1,), (2,)])) == [(2, os.getpid()), (4, os.getpid())]
    (line,) = said
    assert line.endswith("others cannot start ([Errno 30] Read-only file system)"), "said once, with the reason"


@pytest.mark.parametrize(("chunks", "times"), [(row_workers.FEW, 0), (row_workers.FEW + 1, 1)])
def test_that_processes_would_import_another_package_is_said_where_they_are_needed(monkeypatch, chunks, times):
    monkeypatch.setattr(row_workers, "_is_found", lambda: False)
    said = []
    with Workers(2, said.append) as workers:
        assert len(list(workers.map(double, ((number,) for number in range(chunks))))) == chunks
    assert len(said) == times and all("they would import another alignflow" in line for line in said)


def test_one_process_that_was_asked_for_is_nothing_to_say(monkeypatch):
    monkeypatch.setattr(row_workers, "FEW", 0)
    said = []
    with Workers(1, said.append) as workers:
        assert list(workers.map(double, [(1,)])) == [(2, os.getpid())]
    assert said == []


COUNTER = """
from alignflow.data import row_workers
if __name__ == "__main__":
    row_workers.FEW = 0
    with row_workers.Workers(2) as workers:
        print(list(workers.map(abs, [(-1,), (2,)])))
"""


def test_where_no_socket_can_be_made_the_processes_begin_fresh(tmp_path):
    place = tmp_path / ("long" * 25)  # a socket's path has 107 bytes at most
    place.mkdir()
    script = tmp_path / "counter.py"
    script.write_text(COUNTER)
    found = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, env={**os.environ, "TMPDIR": str(place)}
    )
    assert (found.stdout.strip(), found.returncode) == ("[1, 2]", 0), found.stderr


SAYS_WHERE = """
from alignflow.data import row_workers
if __name__ == "__main__":
    row_workers.FEW = 0
    with row_workers.Workers(2) as workers:
        print(*workers.map(eval, [("__import__('alignflow.data.row_workers').data.row_workers.__file__",)] * 2), sep="\\n")
"""


def test_no_process_works_with_the_code_of_another_package_of_this_name(tmp_path):
    package = shutil.copytree(
        Path(row_workers.__file__).parents[1], tmp_path / "alignflow", ignore=shutil.ignore_patterns("__pycache__")
    )
    (package / "torchrun.py").write_text(
        SAYS_WHERE
    )  # a module that the other package has, too: a process that begins fresh imports the main one
    found = subprocess.run(
        [sys.executable, "-P", str(package / "start.py"), "alignflow.torchrun"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert found.stdout.split() == [str(package / "data" / "row_workers.py")] * 2, found.stderr


SLEEPER = """
import sys, time
from alignflow.data import row_workers
from alignflow.data.spool import Spool
def work(number):
    print(os.getpid(), flush=True)
    time.sleep(600)
import os
if __name__ == "__main__":
    row_workers.FEW = 0
    with Spool(sys.argv[1]) as spool, row_workers.Workers(2) as workers:
        spool.new().touch()
        list(workers.map(work, [(1,), (2,)]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")
def test_processes_die_with_the_one_that_started_them(tmp_path):
    script = tmp_path / "sleeper.py"
    script.write_text(SLEEPER.replace("Spool(sys.argv[1])", "Spool(__import__('pathlib').Path(sys.argv[1]))"))
    parent = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "spool")],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(row_workers.__file__).parents[2],
    )
    children = [int(parent.stdout.readline()) for _ in range(2)]
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{child}").exists() for child in children)
