"""Two stages never work on one GPU at the same time; those on a CPU never wait."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from alignflow.data.run import Runtime
from alignflow.tasks.launch.devices import PLACE, devices_of, held, lock_directory, visible_devices


@pytest.fixture(autouse=True)
def gpus(tmp_path, monkeypatch):
    """A machine with four GPUs."""
    monkeypatch.setenv(PLACE, str(tmp_path / "locks"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 0,1,GPU-ab/c")


def test_a_stage_holds_one_device_per_process_and_only_where_it_runs_a_model():
    assert visible_devices() == ["2", "0", "1", "GPU-ab/c"]
    assert devices_of("align", Runtime(device="cuda", processes=2)) == ["2", "0"]
    assert devices_of("sample", Runtime(device="cuda")) == ["2"] and devices_of(
        "reference", Runtime(device="cuda")
    ) == ["2"]
    assert (
        devices_of("prepare", Runtime(device="cuda")) == []
        and devices_of("align", Runtime(device="cpu", processes=2)) == []
    )


@pytest.mark.parametrize("named", ["", "-1"])
def test_without_a_device_nothing_is_held(monkeypatch, named):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert visible_devices() == []


def test_stages_that_share_a_device_take_turns_and_never_wait_for_each_other():
    at_work, most, turns = [], [], []

    def stage(devices):
        for _ in range(20):
            with held(devices):
                at_work.append(devices)
                most.append(len(at_work))
                time.sleep(0.001)
                at_work.remove(devices)
        turns.append(devices)

    threads = [threading.Thread(target=stage, args=(devices,)) for devices in (["0", "1"], ["1", "0"], ["1"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(turns) == 3 and max(most) == 1


def test_other_devices_and_stages_on_a_cpu_go_on():
    with held(["0"]), held(["1"]), held([]) as none:
        assert none == ()


def test_the_child_holds_the_device_when_its_parent_is_gone():
    code = "import sys\nsys.stdin.read()"
    with held(["0"]) as locks:
        child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, pass_fds=locks)
    order = []

    def next_stage():
        with held(["0"]):
            order.append("next")

    waiting = threading.Thread(target=next_stage)
    waiting.start()
    time.sleep(0.3)
    order.append("child ends")
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    waiting.join(10)
    assert order == ["child ends", "next"]


def test_every_user_of_the_machine_may_lock():
    with held(["GPU-ab/c"]):
        (file,) = lock_directory().iterdir()
    assert (
        file.name == "GPU-ab_c.lock"
        and file.stat().st_mode & 0o777 == 0o666
        and lock_directory().stat().st_mode & 0o7777 == 0o1777
    )


def test_who_has_to_wait_for_a_device_says_so_once():
    said, told = [], threading.Event()

    def wait():
        with held(["0", "1"], waits=lambda device: (said.append(device), told.set())):
            pass

    with held(["1"]):
        waiting = threading.Thread(target=wait)
        waiting.start()
        assert told.wait(30)
    waiting.join(30)
    assert said == ["1"] and not waiting.is_alive()
