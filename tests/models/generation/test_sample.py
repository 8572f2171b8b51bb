"""The sampling stage: a completions table in the prompts' order, the same after a kill, honest about long prompts."""

import pytest

from alignflow.data.configs.generation import SampleConfig
from alignflow.data.errors import DataError
from alignflow.data.records import prompt_digest, read_table, user, write_table
from alignflow.models.generation import sample as module
from alignflow.models.generation.sample import sample

CONFIG = SampleConfig(n=3, max_new_tokens=12, batch_size=4)


@pytest.fixture
def prompts(tmp_path):
    rows = [
        {"id": f"p{index}", "source": "test", "prompt": user("q" * (index % 4 + 1) + str(index))} for index in range(7)
    ]
    write_table(rows, "prompts", tmp_path / "prompts" / "train.parquet")
    return tmp_path / "prompts"


def table(run):
    return read_table(run.out / "completions" / "train.parquet")


def test_each_prompt_gets_n_completions_in_the_order_of_the_table(checkpoint, prompts, run):
    metrics = sample(CONFIG, policy=checkpoint, prompts=prompts, run=run)
    rows = table(run)
    assert [row["id"] for row in rows] == [f"p{index}" for index in range(7)]
    assert all(len(row["completions"]) == len(row["ended"]) == len(row["tokens"]) == 3 for row in rows)
    assert metrics["prompts"] == 7 and metrics["completions"] == 21
    assert metrics["tokens/completion_mean"] == pytest.approx(
        sum(count for row in rows for count in row["tokens"]) / 21
    )
    assert run.tokens == sum(count for row in rows for count in row["tokens"])


def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(checkpoint, prompts, run, tmp_path, monkeypatch):
    sample(CONFIG, policy=checkpoint, prompts=prompts, run=run)
    files = {name: (run.out / name).read_bytes() for name in ("completions/train.parquet", "statistics.json")}
    committed = sorted(run.rows.iterdir())
    for path in committed[: len(committed) // 2]:
        path.unlink()
    run.tokens = 0
    sample(CONFIG, policy=checkpoint, prompts=prompts, run=run)
    assert files == {name: (run.out / name).read_bytes() for name in files}
    assert 0 < run.tokens < sum(count for row in table(run) for count in row["tokens"])


def test_more_completions_and_prompts_keep_the_ones_already_made(checkpoint, prompts, run):
    few = CONFIG.model_copy(update={"n": 2, "max_prompts": 3})
    sample(few, policy=checkpoint, prompts=prompts, run=run)
    made = {row["id"]: row["completions"] for row in table(run)}
    run.tokens = 0
    sample(CONFIG, policy=checkpoint, prompts=prompts, run=run)
    rows = table(run)
    assert all(row["completions"][:2] == made[row["id"]] for row in rows if row["id"] in made)
    assert run.tokens < sum(count for row in rows for count in row["tokens"])


def test_max_prompts_takes_the_first_by_hash_in_table_order(checkpoint, prompts, run):
    sample(CONFIG.model_copy(update={"max_prompts": 3}), policy=checkpoint, prompts=prompts, run=run)
    everything = read_table(prompts / "train.parquet")
    first = sorted(everything, key=lambda row: prompt_digest(row["prompt"]))[:3]
    assert [row["id"] for row in table(run)] == sorted(row["id"] for row in first)


def test_another_seed_makes_other_completions(checkpoint, prompts, run):
    sample(CONFIG, policy=checkpoint, prompts=prompts, run=run)
    first = table(run)
    sample(CONFIG.model_copy(update={"seed": 1}), policy=checkpoint, prompts=prompts, run=run)
    assert table(run) != first


def test_greedy_completions_are_equal_and_warned_about(checkpoint, prompts, run):
    metrics = sample(CONFIG.model_copy(update={"temperature": 0.0}), policy=checkpoint, prompts=prompts, run=run)
    assert metrics["duplicates"] == pytest.approx(2 / 3)
    assert any("temperature" in warning for warning in run.warnings)


def test_an_over_long_prompt_names_row_lengths_and_advice(checkpoint, tmp_path, run):
    write_table([{"id": "long", "source": "t", "prompt": user("x" * 40)}], "prompts", tmp_path / "p" / "train.parquet")
    with pytest.raises(DataError) as caught:
        sample(CONFIG.model_copy(update={"max_prompt_length": 16}), policy=checkpoint, prompts=tmp_path / "p", run=run)
    assert all(part in str(caught.value) for part in ("long", "16", "truncate", "max_prompt_length"))


def test_a_prompt_that_leaves_no_room_in_the_context_is_refused(checkpoint, tmp_path, run):
    write_table([{"id": "long", "source": "t", "prompt": user("x" * 88)}], "prompts", tmp_path / "p" / "train.parquet")
    with pytest.raises(DataError, match="context of 96 leaves 84"):
        sample(CONFIG, policy=checkpoint, prompts=tmp_path / "p", run=run)


def test_truncation_cuts_from_the_left_and_keeps_the_bos(checkpoint, tmp_path, run, monkeypatch):
    write_table(
        [{"id": "long", "source": "t", "prompt": user("a" * 60 + "z" * 60)}],
        "prompts",
        tmp_path / "p" / "train.parquet",
    )
    seen = []
    fitted = module._fitted
    monkeypatch.setattr(module, "_fitted", lambda *arguments: seen.append(fitted(*arguments)) or seen[-1])
    config = CONFIG.model_copy(update={"truncate": True, "max_prompt_length": 16})
    metrics = sample(config, policy=checkpoint, prompts=tmp_path / "p", run=run)
    assert metrics["completions"] == 3 and len(seen[0]) == 16 and seen[0][0] == 1


def test_prompts_that_are_cut_are_counted_and_said(checkpoint, tmp_path, run):
    texts = {"long": "a" * 60, "short": "a", "longer": "a" * 70}
    rows = [{"id": name, "source": "t", "prompt": user(text)} for name, text in texts.items()]
    write_table(rows, "prompts", tmp_path / "p" / "train.parquet")
    config = CONFIG.model_copy(update={"truncate": True, "max_prompt_length": 16})
    sample(config, policy=checkpoint, prompts=tmp_path / "p", run=run)
    assert [
        line for line in run.warnings if "2 of 3 prompts were cut from the left to 16 tokens; the longest had" in line
    ]


def test_no_room_for_any_prompt_is_refused(checkpoint, prompts, run):
    with pytest.raises(DataError, match="max_new_tokens"):
        sample(CONFIG.model_copy(update={"max_new_tokens": 96}), policy=checkpoint, prompts=prompts, run=run)


def test_no_prompts_is_an_error(checkpoint, tmp_path, run):
    write_table([], "prompts", tmp_path / "p" / "train.parquet")
    with pytest.raises(DataError, match="no prompts"):
        sample(CONFIG, policy=checkpoint, prompts=tmp_path / "p", run=run)
