"""Who a process is, whether it lives, and what is left of those that do not."""

import os
import subprocess
import sys

import pytest

from alignflow.data import host
from alignflow.data.host import Host, now_in, remove_abandoned, started, this_host


def test_places_where_process_numbers_differ_have_different_ids():
    one = Host("a", "boot", "pid:[1]")
    ids = {one.id, Host("b", "boot", "pid:[1]").id, Host("a", "other", "pid:[1]").id, Host("a", "boot", "pid:[2]").id}
    assert len(ids) == 4 and all(len(name) == 12 for name in ids) and one.id == Host("a", "boot", "pid:[1]").id
    assert Host("my host-1.local", "", "").file_name == "my_host_1.local"
    assert this_host() == this_host()


def test_a_process_has_the_same_start_while_it_lives_and_none_afterwards():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    begun = started(child.pid)
    assert begun.isdigit() and begun == started(child.pid) and int(begun) >= int(started(os.getpid()))
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert started(child.pid) == "", "it ended, and nobody has waited for it"
    child.wait()
    assert started(child.pid) == ""


def test_the_time_is_that_of_the_directory_and_leaves_no_file(tmp_path):
    (tmp_path / "a").write_text("x")
    assert abs(now_in(tmp_path) - (tmp_path / "a").stat().st_mtime) < 60 and os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize(
    ("writer", "age", "stays"),
    [
        ("1-{here}-x", 0, True),
        ("4194304000-{here}-x", 0, False),
        ("{self}-{here}-x", 0, False),
        ("1-elsewhere00-x", 10, True),
        ("1-elsewhere00-x", 2 * host.FRESH_S, False),
        ("none-{here}-x", 0, False),
    ],
)
def test_a_temporary_file_goes_when_its_writer_is_dead(tmp_path, writer, age, stays):
    path = tmp_path / f".part-{writer.format(here=this_host().id, self=os.getpid())}"
    path.write_text("x")
    os.utime(path, (path.stat().st_mtime - age,) * 2)
    remove_abandoned(tmp_path, ".part-")
    assert path.exists() is stays
