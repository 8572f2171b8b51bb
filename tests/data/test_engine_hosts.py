import fcntl
import os
import time

import pytest
from engine_support import engine_place

from alignflow.data.engine_hosts import (
    VARIABLE,
    connected,
    end_idle_hosts,
    engine_directory,
    remove_old_logs,
    socket_path,
    start_lock,
)
from alignflow.data.errors import UserError


@pytest.fixture
def place():
    with engine_place() as directory:
        yield directory


def test_the_directory_is_made_for_its_user_alone(place, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(place / "new"))
    assert engine_directory().stat().st_mode & 0o777 == 0o700


def test_a_directory_that_others_may_enter_is_refused(place):
    place.chmod(0o755)
    with pytest.raises(UserError, match="belong to you alone"):
        engine_directory()


def test_a_link_in_place_of_the_directory_is_refused(place, monkeypatch):
    (place / "real").mkdir(mode=0o700)
    (place / "link").symlink_to(place / "real")
    monkeypatch.setenv(VARIABLE, str(place / "link"))
    with pytest.raises(UserError, match="belong to you alone"):
        engine_directory()


def test_a_path_that_is_too_long_for_a_socket_is_refused_with_the_remedy(place, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(place / ("x" * 100)))
    with pytest.raises(UserError, match="100 at most") as raised:
        socket_path("name")
    assert VARIABLE in raised.value.do


def test_the_lock_is_held_inside_and_free_after(place):
    with start_lock("name"):
        file = os.open(place / "name.lock", os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(file)


def test_nobody_listens_behind_a_socket_that_a_killed_host_left(place):
    import socket

    path = socket_path("name")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert path.exists() and connected(path) is None and end_idle_hosts() == []


def test_logs_go_after_a_week(place):
    for name, days in (("old", 8), ("new", 6)):
        (place / f"{name}.log").touch()
        os.utime(place / f"{name}.log", (time.time() - days * 86_400,) * 2)
    remove_old_logs()
    assert [path.name for path in place.glob("*.log")] == ["new.log"]


def test_a_directory_that_is_not_ours_has_no_engine_of_ours(place):
    place.chmod(0o777)
    assert end_idle_hosts() == []
