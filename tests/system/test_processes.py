"""Training in two processes: under torchrun by the supervisor, equal to one, lost to no kill, and no orphan left."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tiny_model import make_checkpoint
from training_support import largest_difference, run_cell, set_sizes, share_of_update

from alignflow.data import catalogue
from alignflow.data.artifacts import digest_of, file_digest, payload_files
from alignflow.data.configs.training import SFTConfig
from alignflow.data.errors import DataError, StageError
from alignflow.data.records import assistant, read_table, user, write_table
from alignflow.data.run import Runtime, write_whole
from alignflow.tasks.launch.child import run_child
from alignflow.tasks.store.artifact_store import ArtifactStore

TESTS = Path(__file__).parents[1]
REPOSITORY = TESTS.parent
TOLERANCE = 1e-5  # fp32, four steps of AdamW at 1e-2
BF16_SHARE = 0.05  # of the update: splitting a step in two moves plain torch by 0.023 in bf16
pytestmark = pytest.mark.timeout(900)

CELLS = {
    f"zero {stage} {precision} {tokens}": {
        "config": {},
        "runtime": {"zero_stage": stage, "precision": precision, "micro_batch_tokens": tokens},
    }
    for stage in (1, 2, 3)
    for precision, tokens in (("fp32", 8192), ("fp32", 45), ("bf16", 8192))
}
CELLS["zero 3 untied"] = {"config": {"tied": False}, "runtime": {"zero_stage": 3}}
CELLS["zero 3 offloaded"] = {"config": {}, "runtime": {"zero_stage": 3, "offload": "all", "micro_batch_tokens": 45}}
CELLS["one row a step"] = {"config": {"batch_size": 1}, "runtime": {"zero_stage": 2}}


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """All cells, trained by two processes in one launch: uneven rows, and heads that are called a different number of times."""
    root = tmp_path_factory.mktemp("cells")
    (root / "cells.json").write_text(json.dumps(CELLS))
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        "--rdzv-backend=c10d",
        "--rdzv-endpoint=localhost:0",
        "--local-addr=127.0.0.1",
        str(TESTS / "training_support.py"),
        str(root / "cells.json"),
        str(root),
    ]
    environment = {
        **os.environ,
        "GLOO_SOCKET_IFNAME": "lo",
        "DS_ACCELERATOR": "cpu",
        "PYTHONPATH": f"{REPOSITORY}:{TESTS}",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=800)
    (root / "log.txt").write_text(done.stdout + done.stderr)
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    return root


@pytest.fixture(scope="module")
def oracle(tmp_path_factory):
    """The plain torch loop in one process."""
    known = {}

    def train(config, precision):
        name = json.dumps([config, precision])
        if name not in known:
            before = set_sizes(persistent=0, chunk_tokens=16)
            run = run_cell(tmp_path_factory.mktemp("oracle"), config, {"engine": "torch", "precision": precision})
            set_sizes(*before)
            known[name] = load_file(run.out / "state.safetensors"), json.loads((run.out / "metrics.json").read_text())
        return known[name]

    return train


@pytest.mark.parametrize("name", list(CELLS))
def test_two_processes_take_the_steps_of_one(name, cells, oracle):
    cell = CELLS[name]
    precision = cell["runtime"].get("precision", "fp32")
    state = load_file(cells / name / "out" / "state.safetensors")
    expected, metrics = oracle(cell["config"], precision)
    if precision == "bf16":
        assert share_of_update(state, expected, cell["config"]) < BF16_SHARE
    else:
        assert largest_difference(state, expected) < (1e-4 if "untied" in name else TOLERANCE)
    assert json.loads((cells / name / "out" / "metrics.json").read_text()) == pytest.approx(
        metrics, rel=1e-2 if precision == "bf16" else 1e-5
    )


def test_the_group_of_two_adds_up_and_gathers(cells):
    first, second = (json.loads((cells / f"group-{rank}.json").read_text()) for rank in (0, 1))
    assert (first["rank"], second["rank"], first["size"], first["main"], second["main"]) == (0, 1, 2, True, False)
    assert (first["share"], second["share"]) == (["a", "c", "e"], ["b", "d"])
    for found in (first, second):
        assert (
            found["sum_all"] == {"a": 0.2, "b": 3.0}
            and found["sum_tensor"] == [1, 3, 5]
            and found["type"] == "torch.int64"
        )
        assert found["gather"] == [{"rank": 0, "text": "é"}, {"rank": 1, "text": "éééé"}] and found["anywhere"] == [
            True,
            False,
        ]


SITE = """
from alignflow.data import catalogue
from toy_config import ToyTrainingConfig
catalogue.STAGES["toy"] = catalogue.Stage("training_support:toy_training", "A toy.", config=ToyTrainingConfig, makes="checkpoint", trains=True)
"""


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Make the spec of a stage, in a staging area of this test's store; child processes know the stage `toy`."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SITE)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}:{TESTS}")

    def make(name, config, stage="toy", inputs=None, **runtime):
        area = tmp_path / "store" / "staging" / name
        area.mkdir(parents=True, exist_ok=True)
        spec = {
            "stage": stage,
            "config": config,
            "runtime": Runtime(**{"engine": "deepspeed", **runtime}).model_dump(),
            "inputs": inputs or {},
        }
        for part, place in (
            ("out", area / "payload"),
            ("side", area / "side"),
            ("work", tmp_path / "work" / name),
            ("rows", tmp_path / "rows"),
        ):
            place.mkdir(parents=True, exist_ok=True)
            spec[part] = str(place)
        return area, spec

    return make


def launch(area, spec, timeout_s=600):
    result = run_child(spec["stage"], spec, area, timeout_s)
    return digest(area), result


def digest(area):
    return digest_of({name: file_digest(area / "payload" / name) for name in payload_files(area / "payload")})


def alive(area):
    """Processes of a stage that still run; zombies that nobody reaps do not."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                ours = str(area / "spec.json") in (entry / "cmdline").read_bytes().decode(errors="replace")
                if ours and (entry / "stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX":
                    found.append(int(entry.name))
    return found


def test_a_stage_of_two_processes_leaves_one_result_with_the_cost_of_both(places):
    area, spec = places("two", {"max_steps": 2}, processes=2)
    _, result = launch(area, spec)
    assert payload_files(area / "payload") == ["state.safetensors"]
    costs = [json.loads((area / f"result-{rank:05d}.json").read_text())["cost"] for rank in (0, 1)]
    assert result["cost"]["cpu_s"] == pytest.approx(sum(cost["cpu_s"] for cost in costs))
    assert result["cost"]["peak_memory_mb"] == pytest.approx(sum(cost["peak_memory_mb"] for cost in costs))
    assert len((area / "side" / "curves.jsonl").read_text().splitlines()) == 2 and not alive(area)


@pytest.mark.parametrize(
    ("fail", "error", "text"),
    [
        ("raise", DataError, "row 3: no good\n  write better rows"),
        ("break", StageError, "ZeroDivisionError"),
        ("die", StageError, "process 1 of 2 was killed by signal 9"),
    ],
)
def test_the_error_of_any_process_arrives_as_one(fail, error, text, places):
    area, spec = places("failing", {"fail": fail}, processes=2)
    with pytest.raises(error, match=text):
        launch(area, spec)
    assert not alive(area)


PARENT = """
import json, sys
from pathlib import Path
from alignflow.tasks.launch.child import run_child
from alignflow.tasks.store.artifact_store import ArtifactStore
area = Path(sys.argv[1])
run_child("toy", json.loads((area / "order.json").read_text()), area, None)
"""


def start(area, spec):
    """A process that launches a stage, to be killed."""
    write_whole(area / "order.json", spec)
    return subprocess.Popen(
        [sys.executable, "-c", PARENT, str(area)],
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{os.environ['PYTHONPATH']}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def until(condition, process, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end and process.poll() is None, "it did not happen"
        time.sleep(0.02)


def role(pid):
    """What a process of a stage is: supervisor, rank, or the launcher of ranks (of one process: its only worker)."""
    if "supervise.py" in Path(f"/proc/{pid}/cmdline").read_text():
        return "supervisor"
    return "rank" if "\0RANK=" in Path(f"/proc/{pid}/environ").read_text() else "launcher"


def kill(whom, parent, area):
    """kill -9 of one of them, and no process of the stage is left 2 s later (a graceful end takes the supervisor's 5)."""
    victims = [parent.pid] if whom == "parent" else [pid for pid in alive(area) if role(pid) == whom]
    for pid in victims[-1:]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + {"launcher": 2.0, "supervisor": 2.0, "parent": 12.0, "rank": 60.0}[whom]
    while left := alive(area):
        assert time.monotonic() < end, (whom, [(pid, role(pid)) for pid in left])
        time.sleep(0.02)
    if whom != "parent":
        parent.wait(60)


@pytest.mark.long
def test_a_training_with_dropout_that_is_killed_again_and_again_ends_with_the_same_bytes(places):
    """Under ZeRO 3, whoever of its processes is hit; test_reliability.py kills the stages themselves, under ZeRO 1."""
    config = {"dropout": 0.1, "max_steps": 30, "save_steps": 2, "pause_s": 0.05}
    undisturbed, _ = launch(*places("whole", config, processes=2, zero_stage=3))
    area, spec = places("killed", config, processes=2, zero_stage=3)
    chance, reached = random.Random(7), 0
    for whom in ("launcher", "rank", "supervisor", "parent"):
        parent = start(area, spec)

        def newest():
            return max((int(path.name[5:]) for path in Path(spec["work"]).glob("step-*")), default=0)

        until(lambda: newest() > reached, parent)
        time.sleep(chance.uniform(0.0, 0.3))
        kill(whom, parent, area)
        assert (reached := newest()) < 30
    finished, result = launch(area, spec)
    assert "resumed after step" in (area / "side" / "log.txt").read_text() and not result["warnings"]
    assert finished == undisturbed


def test_one_process_may_go_on_for_two_and_says_that_it_is_to_rounding(places):
    config = {"max_steps": 6, "save_steps": 2, "pause_s": 0.3}
    area, spec = places("changed", config, processes=2)
    parent = start(area, spec)
    until(lambda: list(Path(spec["work"]).glob("step-*")), parent)
    kill("launcher", parent, area)
    _, spec = places("changed", {**config, "pause_s": 0.0}, processes=1)
    _, result = launch(area, spec)
    state = load_file(area / "payload" / "state.safetensors")
    launch(*places("one", {**config, "pause_s": 0.0}, processes=1))
    expected = load_file(area.parent / "one" / "payload" / "state.safetensors")
    assert largest_difference(state, expected) < 1e-4
    assert any("processes 2 -> 1" in text and "rounding" in text for text in result["warnings"])


def test_one_process_needs_no_compiler_and_no_port_and_two_may_start_at_once(places, monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", "missing-compiler")
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "extensions"))
    monkeypatch.setenv("MASTER_PORT", "1")
    areas = [places(name, {"max_steps": 2}) for name in ("first", "second")]
    parents = [start(area, spec) for area, spec in areas]
    assert [parent.wait(600) for parent in parents] == [0, 0]
    assert len({digest(area) for area, _ in areas}) == 1
    assert not list((tmp_path / "extensions").glob("*/*.so"))


def test_two_processes_need_no_compiler(places, monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", "missing-compiler")
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "extensions"))
    launch(*places("two", {"max_steps": 1}, processes=2, zero_stage=3))


@pytest.fixture(scope="module")
def tiny_checkpoint(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory):
    root = tmp_path_factory.mktemp("demonstrations")
    words = ["cat", "dog", "bird", "house", "hill"]
    rows = [
        {
            "id": f"d{i}",
            "source": "t",
            "messages": [*user(f"the {words[i % 5]}"), *assistant(" ".join([words[i % 5]] * (1 + i % 7)))],
        }
        for i in range(24)
    ]
    write_table(rows, "demonstrations", root / "train.parquet")
    write_table(rows[:7], "demonstrations", root / "heldout.parquet")
    return root


def test_two_nodes_on_loopback_finish_an_sft_stage_with_the_bytes_of_one_node(
    places, tiny_checkpoint, demonstrations, tmp_path
):
    config = SFTConfig(
        learning_rate=1e-3, max_steps=6, batch_size=9, save_steps=3, max_length=64, logging_steps=2
    ).model_dump(mode="json")
    inputs = {"base": str(tiny_checkpoint), "demonstrations": str(demonstrations)}
    ArtifactStore(tmp_path / "store")  # the node takes a directory that holds something only where it is a store
    one, first = launch(*places("sft-one", config, "sft", inputs, processes=2))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "PYTHONPATH": f"{REPOSITORY}:{os.environ['PYTHONPATH']}",
        "ALIGNFLOW_HOME": str(tmp_path / "store"),
    }
    node = subprocess.Popen(
        [sys.executable, "-m", "alignflow", "node", "--node-rank", "1", "--once"],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
    )
    try:
        two, second = launch(*places("sft-two", config, "sft", inputs, nodes=2, rendezvous=f"127.0.0.1:{port}"))
        said, _ = node.communicate(timeout=120)
    finally:
        node.kill()
    assert two == one and second["metrics"] == first["metrics"]
    assert "sft: joined as node 1 of 2" in said and "sft: ended\n" in said


@pytest.fixture
def preferences(tmp_path):
    root = tmp_path / "preferences"
    rows = [
        {
            "id": f"p{i}",
            "source": "t",
            "prompt": user(f"the {i % 7} cats"),
            "chosen": assistant("cat " * (1 + i % 5)),
            "rejected": assistant("dog " * (1 + i % 3)),
            "chosen_ended": True,
            "rejected_ended": True,
        }
        for i in range(20)
    ]
    write_table(rows, "preferences", root / "train.parquet")
    write_table(rows[:5], "preferences", root / "heldout.parquet")
    return root


def test_two_processes_share_the_answers_that_the_reference_scores_and_under_zero_3_the_model(
    places, tiny_checkpoint, preferences
):
    config = catalogue.STAGES["reference"].config(per_token=True).model_dump(mode="json")
    inputs = {"checkpoint": str(tiny_checkpoint), "preferences": str(preferences)}
    found = []
    for name, runtime in (("one", {}), ("two", {"processes": 2}), ("shared-out", {"processes": 2, "zero_stage": 3})):
        area, spec = places(f"reference-{name}", config, "reference", inputs, **runtime)
        _, result = launch(area, spec)
        found.append((read_table(area / "payload" / "train.parquet"), result["metrics"]))
    (one, metrics), *others = found
    for rows, same in others:
        assert same == pytest.approx(metrics, rel=1e-5)
        for row, expected in zip(rows, one, strict=True):
            assert row["token_logps"] == pytest.approx(expected["token_logps"], abs=1e-4)
            assert (row["id"], row["tokens"]) == (expected["id"], expected["tokens"])
            assert row["logps"] == pytest.approx(expected["logps"], abs=1e-4)


METHODS = ("dpo", "cpo", "orpo", "kto", "npo", "lipo", "beta_dpo", "tdpo2")
"""Sums over rows, means over the tokens of a step, figures of a whole step, lists, weights of pairs, a live reference."""


@pytest.mark.parametrize(
    ("stage", "settings"), [("sft", {}), ("reward", {}), *(("align", {"method": name}) for name in METHODS)], ids=str
)
def test_the_stages_train_in_two_processes_under_zero_3_as_in_one(
    stage, settings, places, tiny_checkpoint, demonstrations, preferences
):
    inputs = {
        "sft": {"base": tiny_checkpoint, "demonstrations": demonstrations},
        "reward": {"base": tiny_checkpoint, "preferences": preferences},
        "align": {"policy": tiny_checkpoint, "reference": None, "preferences": preferences},
    }[stage]
    inputs = {name: str(path) if path else None for name, path in inputs.items()}
    config = (
        catalogue.STAGES[stage]
        .config(
            learning_rate=1e-3,
            max_steps=4,
            batch_size=7,
            max_length=64,
            logging_steps=1,
            eval_steps=2,
            load_best_model_at_end=True,
            **settings,
        )
        .model_dump(mode="json")
    )
    found = []
    for name, runtime in (("one", {}), ("two", {"processes": 2, "zero_stage": 3})):
        area, spec = places(f"{stage}-{name}", config, stage, inputs, **runtime)
        _, result = launch(area, spec)
        found.append((load_file(area / "payload" / "model.safetensors"), result["metrics"]))
    (one, one_metrics), (two, two_metrics) = found
    shapes = {name: value.shape for name, value in one.items()}
    assert {name: value.shape for name, value in two.items()} == shapes and all(
        shape.numel() for shape in shapes.values()
    ), "whole tensors"
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-4
    assert two_metrics == pytest.approx(one_metrics, rel=1e-3, abs=1e-5)
