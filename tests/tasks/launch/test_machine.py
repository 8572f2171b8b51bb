"""What the machine has: the forms in which kernel and driver say it."""

import os
import subprocess

import psutil
import pytest

from alignflow.tasks.launch import machine
from alignflow.tasks.launch.machine import (
    MIB,
    cgroup_limit,
    free_disk,
    gpu_memory,
    memory_info,
    parse_gpus,
    this_machine,
    visible,
)

GPUS = [("0", "GPU-aa", 80 * MIB), ("1", "GPU-bb", 40 * MIB)]


def test_memory_of_the_machine(tmp_path, monkeypatch):
    total, available = memory_info()
    assert total == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < available < total
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    assert memory_info() == (None, None), "a system that does not say it"


def test_the_lowest_limit_of_the_control_groups_counts(tmp_path):
    inner = tmp_path / "system" / "job"
    inner.mkdir(parents=True)
    (inner / "memory.max").write_text("max\n")
    (tmp_path / "system" / "memory.max").write_text("5000\n")
    (tmp_path / "cgroup").write_text("0::/system/job\n")
    assert cgroup_limit(tmp_path / "cgroup", tmp_path) == 5000


def test_control_groups_of_version_1_and_their_number_for_no_limit(tmp_path):
    for name, limit in (("job", 7000), ("free", 2**63 - 4096)):
        (tmp_path / "memory" / name).mkdir(parents=True)
        (tmp_path / "memory" / name / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (tmp_path / "one").write_text("9:cpu,cpuacct:/job\n4:memory:/job\n")
    (tmp_path / "two").write_text("4:memory:/free\n")
    assert cgroup_limit(tmp_path / "one", tmp_path) == 7000
    assert cgroup_limit(tmp_path / "two", tmp_path) is None and cgroup_limit(tmp_path / "nothing", tmp_path) is None


def test_the_drivers_answer():
    text = "0, GPU-aa, 81559\n1, GPU-bb, 40960\nsomething else\n2, GPU-cc, [N/A]\n"
    assert parse_gpus(text) == [("0", "GPU-aa", 81559 * MIB), ("1", "GPU-bb", 40960 * MIB)]


@pytest.mark.parametrize(
    ("selection", "memory"),
    [(None, (80, 40)), ("1", (40,)), ("1,0", (40, 80)), ("GPU-b", (40,)), ("", ()), ("-1", ()), ("0,9,1", (80,))],
)
def test_only_visible_gpus_count(selection, memory):
    assert visible(GPUS, selection) == tuple(value * MIB for value in memory)


@pytest.mark.parametrize(
    "error",
    [FileNotFoundError, subprocess.TimeoutExpired("nvidia-smi", 1), subprocess.CalledProcessError(9, "nvidia-smi")],
)
def test_a_driver_that_does_not_answer_is_no_gpu(monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(machine.subprocess, "run", fail)
    assert gpu_memory() == ()


def test_gpus_are_asked_for_on_cuda_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "gpu_memory", lambda: (80,))
    here, there = this_machine(tmp_path, "cpu"), this_machine(tmp_path, "cuda")
    assert here.gpus == () and there.gpus == (80,)
    assert here.memory > 0 and 0 < here.available <= here.memory and here.free_disk > 0
    assert free_disk(tmp_path / "nowhere") is None
