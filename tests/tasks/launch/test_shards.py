"""Shards fill the journal of a stage before it runs: the same bytes for any number of them, whatever happens to one."""

import json
import os
import pickle
import sys
import time
from pathlib import Path

import pytest
from prefect import flow

from alignflow.data import catalogue
from alignflow.data.configs.recipe import EngineConfig
from alignflow.data.errors import DamagedArtifactError, DataError, StageError, UserError
from alignflow.data.run import Runtime
from alignflow.tasks.keys.content import ContentDigests
from alignflow.tasks.keys.key import stage_key
from alignflow.tasks.launch import shards as module
from alignflow.tasks.launch.call import Sharding, StageCall
from alignflow.tasks.launch.child import listening
from alignflow.tasks.launch.runtime import resolve_runtime, sharding
from alignflow.tasks.launch.shard_task import task_runner
from alignflow.tasks.launch.shards import (
    LOGS,
    end,
    fill_shard,
    launches_of,
    number_of,
    placed,
    plan_shards,
    progress_of,
    with_costs,
)
from alignflow.tasks.launch.stage import make_spec, run_stage
from alignflow.tasks.launch.stage_task import run_as_task

ROWS = """
import os, signal, time
from pathlib import Path
from alignflow.data.configs.base import StageConfig, runtime_field
from alignflow.data.errors import DataError
from alignflow.models.generation.journal import RowJournal, RowWork


class RowsConfig(StageConfig):
    count: int = 23
    batch_size: int = runtime_field(default=2)
    act: str = runtime_field(default="")
    log: str = runtime_field(default="")


def work(config, run, number):
    def compute(batch):
        if number == 1 and config.act == "refuse" and batch[0] > 4:
            raise DataError("no good", where="row 3", do="write better rows")
        if number == 1 and config.act == "die" and batch[0] > 4:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 0 and config.act in ("refuse", "die"):
            time.sleep(0.5)  # is still at it when the other one fails
        if config.act == "wait":
            time.sleep(60)
        with open(config.log, "a") as file:
            file.write(f"{os.getpid()} {number} {batch}\\n")
        run.count_rows(len(batch))
        return [index * index for index in batch]

    ids = [f"row {index}" for index in range(config.count)]
    return RowWork(ids, config.batch_size, compute, lambda done, total: run.progress(done, total, "rows"))


def make(config, *, run):
    rows = RowJournal(run.rows).compute(*work(config, run, None))
    (run.out / "rows.txt").write_text(" ".join(map(str, rows)))
    return {"rows": float(len(rows))}


def fill(config, *, run, share):
    RowJournal(run.rows).fill(work(config, run, share.number), share)
"""
SITE = """
from alignflow.data import catalogue
from toy_rows import RowsConfig
catalogue.STAGES["rows"] = catalogue.Stage("toy_rows:make", "Rows.", config=RowsConfig, fills="toy_rows:fill")
"""


@pytest.fixture
def rows_call(tmp_path, monkeypatch, store):
    """Make the call of a toy stage that can be shared out, here and in child processes."""
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "toy_rows.py").write_text(ROWS)
    (folder / "sitecustomize.py").write_text(SITE)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    sys.modules.pop("toy_rows", None)
    import toy_rows

    row = catalogue.Stage("toy_rows:make", "Rows.", config=toy_rows.RowsConfig, fills="toy_rows:fill")
    monkeypatch.setitem(catalogue.STAGES, "rows", row)
    monkeypatch.setattr("alignflow.tasks.launch.stage.fingerprint", lambda table, name: "none")

    def make(shards=1, **fields):
        config = toy_rows.RowsConfig(log=str(tmp_path / "log"), **fields)
        key, components = stage_key("rows", config, {}, Runtime(), ContentDigests(store.root))
        return StageCall(
            name="rows",
            stage="rows",
            config=config.model_dump(mode="json"),
            inputs={},
            runtime=Runtime(),
            key=key,
            components=components,
            sharding=Sharding(shards=shards, threads=1),
        )

    return make


@pytest.fixture
def done(tmp_path):
    """The batches that were computed so far, as (process, shard, positions)."""

    def read():
        lines = (tmp_path / "log").read_text().splitlines() if (tmp_path / "log").exists() else []
        return [(int(pid), shard, json.loads(batch)) for pid, shard, batch in (line.split(" ", 2) for line in lines)]

    return read


def run(call, store, force=False):
    """Run a call as a task of a flow."""

    @flow(name="sharding", persist_result=False)
    def one():
        return run_as_task(call, store, force).model_dump()

    return one()


def specs(call, store, count=2):
    """The shards of a call whose stage does not run."""
    call = call.model_copy(update={"sharding": call.sharding.model_copy(update={"shards": count})})
    return plan_shards(call, make_spec(call, store, store.stage_area(call.key)))


def test_any_number_of_shards_makes_the_same_bytes_by_the_same_batches(rows_call, store, done):
    alone, _ = run_stage(rows_call(), store)
    batches = sorted(batch for _, _, batch in done())
    for count in (2, 3):
        before = len(done())
        result = run(rows_call(shards=count), store, force=True)
        fresh = done()[before:]
        assert result["ref"]["digest"] == alone.digest and result["ran"]
        assert sorted(batch for _, _, batch in fresh) == batches, "each batch once, and as one process plans them"
        assert {shard for _, shard, _ in fresh} == {str(number) for number in range(count)} and len(
            {pid for pid, *_ in fresh}
        ) == count
    assert store.manifest(alone.key).cost["rows"] == 23, "what shards computed is the stage's cost"
    assert not (store.root / "work" / alone.key).exists()


def test_a_killed_shard_fails_the_stage_ends_the_others_and_loses_a_batch(rows_call, store, done):
    with pytest.raises(StageError, match="rows 2/2: its process was killed by signal 9"):
        run(rows_call(shards=2, act="die"), store)
    kept = [batch for _, _, batch in done()]
    assert [2, 3] in kept and len(kept) < 11 and not list((store.root / "artifacts").iterdir())
    time.sleep(1)
    assert [batch for _, _, batch in done()] == kept, "the other one was ended"
    result = run(rows_call(shards=3), store)
    alone, _ = run_stage(rows_call(), store, force=True)
    whole = sorted(batch for _, _, batch in done()[-12:])
    again = [batch for _, _, batch in done()[:-12]]
    assert sorted(again) == whole, (
        "what was committed is not computed again, and batches are those of an undisturbed run"
    )
    assert result["ref"]["digest"] == alone.digest


def test_an_error_of_a_shard_arrives_as_it_was_raised(rows_call, store):
    with pytest.raises(DataError, match="row 3: no good\n  write better rows"):
        run(rows_call(shards=2, act="refuse"), store)
    assert not store.is_locked(rows_call().key)


def test_the_progress_of_all_shards_is_heard_as_one(rows_call, store):
    heard = []
    with listening(lambda name, state: heard.append((name, state["done"], state["total"], state["unit"]))):
        run(rows_call(shards=2, batch_size=1), store)
    assert {name for name, *_ in heard} == {"rows"} and {unit for *_, unit in heard} == {"rows"}
    assert heard[-1] == ("rows", 23, 23, "rows"), "the stage itself has the last word"


def test_progress_sums_the_newest_attempt_of_each_shard(rows_call, store):
    shards = specs(rows_call(), store)
    assert progress_of(shards, 1.0) is None
    for attempt, (number, done, seconds) in enumerate([(0, 9, 1), (0, 2, 4.0), (1, 3, 2.0)]):
        side = Path(shards[0].place) / f"{number}-{attempt}" / "side"
        side.mkdir(parents=True)
        (side / "progress.json").write_text(json.dumps({"done": done, "total": 10, "unit": "rows", "left_s": seconds}))
        os.utime(side / "progress.json", (attempt, attempt))
    state = progress_of(shards, 1.0)
    assert (state["done"], state["total"], state["left_s"], state["figures"]) == (5, 20, 4.0, {"shards": 2.0})


def test_shards_see_one_snapshot_of_the_journal_and_earlier_launches_go(rows_call, store):
    first = specs(rows_call(), store)[0]
    Path(first.spec["rows"], "batch-1.json").write_text("{}")
    Path(first.spec["rows"], ".batch-2").write_text("{")
    second = specs(rows_call(), store)[0]
    assert not Path(first.place).exists() and json.loads((Path(second.place) / "known.json").read_text()) == [
        "batch-1.json"
    ]
    assert len(second.model_dump_json()) < 4000
    call = rows_call()
    assert plan_shards(call, make_spec(call, store, store.stage_area(call.key))) == []


def test_a_shard_ends_when_it_is_told_and_when_nobody_gives_a_sign_of_life(rows_call, store, monkeypatch):
    call = rows_call(act="wait")
    for sign in ("told", "silence", "gone"):
        shard = specs(call, store)[0]
        if sign == "silence":
            monkeypatch.setattr(module, "STALE_LOOKS", 3)
        elif sign == "told":
            end([shard])
        else:
            shard = shard.model_copy(update={"place": shard.place + "-other"})
        started = time.monotonic()
        with pytest.raises(StageError, match="nobody waits"):
            fill_shard(shard)
        assert time.monotonic() - started < 30


def test_gpus_fall_to_shards_in_turn_and_threads_are_those_of_the_place(rows_call, store, monkeypatch):
    shards = [
        shard.model_copy(update={"spec": {**shard.spec, "stage": "sample"}})
        for shard in specs(rows_call(), store, count=5)
    ]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert [placed(shard, Runtime(device="cuda")).gpu for shard in shards] == ["4", "7", "4", "7", "4"]
    assert placed(shards[0], Runtime()).gpu == "" and placed(shards[0], Runtime(threads=6)).threads == 1
    monkeypatch.setattr(module, "default_threads", lambda processes: 5)
    assert placed(shards[0].model_copy(update={"threads": 0}), Runtime()).threads == 5
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(UserError, match=r"rows 1/5 on .*no NVIDIA GPU"):
        placed(shards[0], Runtime(device="cuda"))


def test_shards_are_a_matter_of_the_call_and_never_of_the_key(store):
    config = catalogue.STAGES["sample"].config
    keys = [stage_key("sample", config(shards=count), {}, Runtime(), ContentDigests(store.root)) for count in (1, 7)]
    assert keys[0] == keys[1]


def test_threads_of_shards_share_this_machine_or_are_those_of_another(monkeypatch):
    monkeypatch.setattr("alignflow.tasks.launch.runtime.cores", lambda: 24)
    config = catalogue.STAGES["sample"].config(shards=6)
    assert sharding("sample", config, EngineConfig()).threads == 4
    assert sharding("sample", config, EngineConfig(threads=3)).threads == 3
    assert sharding("sample", config, EngineConfig(task_runner="dask", dask_address="tcp://host:8786")).threads == 0
    assert sharding("init", catalogue.STAGES["init"].config(), EngineConfig()).shards == 1


def test_an_address_without_dask_and_dask_that_is_not_installed_are_refused(monkeypatch):
    with pytest.raises(UserError, match=r"engine.dask_address.*\n.*task_runner: dask"):
        resolve_runtime(EngineConfig(dask_address="tcp://host:8786"))
    monkeypatch.setattr("alignflow.tasks.launch.runtime.importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"prefect-dask is not installed\n.*pip install 'alignflow\[dask\]'"):
        resolve_runtime(EngineConfig(task_runner="dask"))


def test_what_shards_cost_is_added_up():
    def cost(**changes):
        return {
            "cost": {
                "wall_s": 1.0,
                "startup_s": 0.5,
                "cpu_s": 2.0,
                "gpu_s": None,
                "tokens": None,
                "rows": 0.0,
                "tokens_per_s": None,
                "peak_memory_mb": 5.0,
            }
            | changes
        }

    assert with_costs(cost(), []) == cost()
    found = with_costs(
        cost(),
        [cost(tokens=60.0, rows=3.0, wall_s=4.0, startup_s=2.0), cost(tokens=40.0, rows=2.0, peak_memory_mb=9.0)],
    )["cost"]
    assert found == {
        "wall_s": 5.0,
        "startup_s": 2.0,
        "cpu_s": 6.0,
        "gpu_s": None,
        "tokens": 100.0,
        "rows": 5.0,
        "tokens_per_s": 20.0,
        "peak_memory_mb": 9.0,
    }


def test_an_error_crosses_to_another_process_whole():
    error = pickle.loads(pickle.dumps(DamagedArtifactError("changed", key="sft-1", where="there", do="run again")))  # noqa: S301
    assert (error.key, str(error)) == ("sft-1", "there: changed\n  run again")


def test_a_scheduler_that_does_not_answer_is_an_error_that_says_what_to_start():
    import dask

    asked = Sharding(shards=2, task_runner="dask", dask_address="tcp://127.0.0.1:9")
    at_once = dask.config.set({"distributed.comm.timeouts.connect": "1s"})
    with at_once, pytest.raises(UserError, match="no Dask scheduler answers"), task_runner(asked):
        pass


def test_a_missing_extra_is_an_error_that_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "prefect_dask", None)
    with (
        pytest.raises(UserError, match=r"pip install 'alignflow\[dask\]'"),
        task_runner(Sharding(shards=2, task_runner="dask")),
    ):
        pass


def test_the_log_of_a_shard_is_found_by_its_pattern_and_has_its_number(tmp_path):
    log = launches_of(tmp_path) / "a1b2" / "3-c4d5" / "side" / "log.txt"
    log.parent.mkdir(parents=True)
    log.touch()
    assert list(launches_of(tmp_path).glob(LOGS)) == [log] and number_of(log) == 4
