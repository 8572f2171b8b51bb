"""Sampling and labelling by several processes, and by a Dask cluster: the same bytes as by one."""

import json
import socket
import subprocess
import sys
import time
import urllib.request

import pytest


@pytest.fixture(scope="module")
def cluster(finished):
    """The address of a Dask scheduler with two workers, each a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    scheduler = [
        sys.executable,
        "-m",
        "dask",
        "scheduler",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--no-dashboard",
    ]
    worker = [
        sys.executable,
        "-m",
        "dask",
        "worker",
        address,
        "--nthreads",
        "1",
        "--no-dashboard",
        "--host",
        "127.0.0.1",
    ]
    log = (finished.store.parent / "dask.log").open("w")
    processes = [
        subprocess.Popen(command, stdout=log, stderr=log, env=finished.environment(), cwd=finished.store.parent)
        for command in (scheduler, worker, worker)
    ]
    yield address
    for process in reversed(processes):
        process.terminate()
    for process in processes:
        process.wait(30)


def task_runs(url, name):
    """Names and states of the server's task runs of a task; they arrive as events, a little later."""
    body = json.dumps({"task_runs": {"name": {"like_": name}}}).encode()
    request = urllib.request.Request(f"{url}/task_runs/filter", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return {run["name"]: run["state_type"] for run in json.load(answer)}


def test_dask_workers_sample_and_the_bytes_are_those_of_one_process(cluster, copy):
    before = copy.digests()["sample"]
    dask = ("--set", "sample.shards=2", "--set", "engine.task_runner=dask", "--set", f"engine.dask_address={cluster}")
    assert copy.run("--only", "sample", "--force", "sample", *dask)["sample"], "forced, so that its journal is empty"
    assert copy.digests()["sample"] == before
    assert json.loads((copy.artifact("sample") / "manifest.json").read_text())["cost"]["rows"] == 120
    wanted, end = {"sample 1/2": "COMPLETED", "sample 2/2": "COMPLETED"}, time.monotonic() + 20
    while task_runs(copy.url, "sample ") | wanted != task_runs(copy.url, "sample "):
        assert time.monotonic() < end, task_runs(copy.url, "sample ")
        time.sleep(0.5)


def test_a_cluster_of_its_own_labels_and_a_pool_of_this_machine_evaluates(copy):
    before = copy.digests()
    settings = ("--set", "label.shards=2", "--set", "engine.task_runner=dask")
    assert copy.run("--only", "label", "--force", "label", *settings)["label"]
    assert copy.run("--only", "evaluate", "--force", "evaluate", "--set", "evaluate.shards=2")["evaluate"]
    assert {stage: copy.digests()[stage] for stage in ("label", "evaluate")} == {
        stage: before[stage] for stage in ("label", "evaluate")
    }
