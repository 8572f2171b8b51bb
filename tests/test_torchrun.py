"""What a person hears of several processes: one result, or the error that the others followed from."""

import json

import pytest

from alignflow.data import errors
from alignflow.data.errors import DataError, StageError, TrainingError
from alignflow.data.run import Runtime
from alignflow.torchrun import START, arguments, first_failure, joined_result

TWO = Runtime(processes=2)


def leave(area, rank, error, time):
    (area / f"error-{rank:05d}.json").write_text(json.dumps({"error": errors.to_json(error), "time": time}))


def test_the_error_that_was_raised_wins_over_those_that_followed_from_it(tmp_path):
    leave(tmp_path, 0, StageError("RuntimeError: [gloo/transport/tcp/pair.cc] Connection closed by peer"), 1.0)
    leave(tmp_path, 1, DataError("no good", where="row 3"), 2.0)
    assert str(first_failure(tmp_path, "sft", TWO, {0: 1, 1: 1})) == "row 3: no good"


def test_the_first_of_several_errors_wins(tmp_path):
    leave(tmp_path, 0, TrainingError("later"), 2.0)
    leave(tmp_path, 1, TrainingError("sooner"), 1.0)
    assert first_failure(tmp_path, "sft", TWO, {0: 1, 1: 1}).what == "sooner"


def test_a_killed_process_is_named_where_nobody_raised_anything(tmp_path):
    leave(tmp_path, 0, StageError("DistBackendError: Connection reset by peer"), 1.0)
    assert "process 1 of 2 was killed by signal 9" in first_failure(tmp_path, "sft", TWO, {0: -15, 1: -9}).what


def test_a_lost_connection_is_told_where_there_is_nothing_better(tmp_path):
    leave(tmp_path, 0, StageError("RuntimeError: timed out waiting"), 1.0)
    assert "timed out" in first_failure(tmp_path, "sft", TWO, {0: 1}).what
    assert "ended without a result" in first_failure(tmp_path / "none", "sft", TWO, {-1: 1}).what


def test_a_result_is_the_first_process_s_with_everybody_s_cost(tmp_path):
    cost = {"wall_s": 2.0, "cpu_s": 1.5, "gpu_s": None, "tokens": 7.0, "tokens_per_s": 3.5, "peak_memory_mb": 100.0}
    for rank in (0, 1):
        (tmp_path / f"result-{rank:05d}.json").write_text(
            json.dumps({"metrics": {"rank": rank}, "warnings": [], "cost": cost})
        )
    result = joined_result(tmp_path, TWO)
    assert result["metrics"] == {"rank": 0}
    assert result["cost"] == {**cost, "cpu_s": 3.0, "peak_memory_mb": 200.0}


@pytest.mark.parametrize(
    ("runtime", "wanted", "unwanted"),
    [
        (
            TWO,
            ("--nnodes=1", "--nproc-per-node=2", "--rdzv-endpoint=localhost:0", "--local-addr=127.0.0.1"),
            ("--node-rank",),
        ),
        (
            Runtime(nodes=2, node_rank=1, rendezvous="127.0.0.1:7000"),
            ("--nnodes=2", "--node-rank=1", "--rdzv-conf=is_host=0", "--local-addr=127.0.0.1"),
            (),
        ),
        (
            Runtime(nodes=2, rendezvous="node0:7000"),
            ("--rdzv-endpoint=node0:7000", "--rdzv-conf=is_host=1"),
            ("--local-addr",),
        ),
    ],
)
def test_one_node_meets_on_a_free_port_of_its_own_and_several_where_the_recipe_says(
    tmp_path, runtime, wanted, unwanted
):
    found = arguments(tmp_path / "spec.json", {"launch": "abc"}, runtime)
    assert set(wanted) <= set(found) and not any(argument.startswith(unwanted) for argument in found if unwanted)
    assert found[-3:] == [str(START), "alignflow.worker", str(tmp_path / "spec.json")] and "--rdzv-id=abc" in found
