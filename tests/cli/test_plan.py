"""`plan` prints needs in a table that a terminal of 100 columns holds; `run` refuses what cannot fit before it starts anything."""

from functools import partial

import cli_support
import pytest

TINY = "recipes/tiny.yaml"
HUGE = [
    "--set",
    "model.build.hidden_size=4096",
    "--set",
    "model.build.num_hidden_layers=64",
    "--set",
    "model.build.num_attention_heads=32",
    "--set",
    "model.build.num_key_value_heads=32",
    "--set",
    "model.build.intermediate_size=65536",
    "--set",
    "engine.micro_batch_tokens=1000000000",
]
"""The largest model that a recipe may build, all rows of a batch at once: 56e9 parameters, and more than 1,000 TiB of activations."""


@pytest.fixture
def alignflow(repository):
    return partial(cli_support.alignflow, cwd=repository, COLUMNS="100")


def test_a_plan_says_what_each_stage_needs(alignflow):
    done = alignflow("plan", TINY)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 100
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("│ sft ")]
    assert "MiB" in line
    assert "this machine: memory" in done.stdout and "largest: " in done.stdout


def test_a_plan_for_a_gpu_that_is_not_here(alignflow):
    done = alignflow("plan", TINY, "--gpu-memory", "24", "--set", "engine.offload=optimizer")
    assert done.returncode == 0, done.stderr
    assert "one process (cuda)" in done.stdout and "assumed machine: GPUs 24.0 GiB; memory unknown" in done.stdout
    assert "besides GPU memory, reward needs" in " ".join(done.stdout.split())


def test_a_plan_without_estimates(alignflow):
    done = alignflow("plan", TINY, "--no-estimate")
    assert done.returncode == 0 and "memory" not in done.stdout and "after init" in done.stdout


def test_a_plan_that_cannot_fit_ends_with_status_2(alignflow):
    done = alignflow("plan", TINY, *HUGE)
    assert done.returncode == 2 and "too large" in done.stdout and "sft needs about" in done.stdout
    assert alignflow("plan", TINY, *HUGE, "--no-estimate").returncode == 0


def test_a_run_that_cannot_fit_is_refused_before_anything_runs(alignflow, store_root):
    done = alignflow("run", TINY, *HUGE)
    assert (
        done.returncode == 2
        and "cannot fit" in done.stderr
        and "--even-if-too-large" in done.stderr
        and "Traceback" not in done.stderr
    )
    assert not any((store_root / "artifacts").iterdir())


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_a_reason_is_never_cut(repository, store, made, columns):
    """In a wide window it stands in the table, in a narrow one below it, each on one line that can be copied."""
    changes = ("model.build.hidden_size=64", "model.build.max_position_embeddings=512")
    settings = [part for change in changes for part in ("--set", change)]
    done = cli_support.alignflow("plan", TINY, *settings, cwd=repository, COLUMNS=columns)
    why = "config.model.build.hidden_size 32 -> 64; config.model.build.max_position_embeddings 192 -> 512"
    (line,) = [line for line in done.stdout.splitlines() if why in line]
    assert line.startswith("│") == (columns == "200")
