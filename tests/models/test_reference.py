"""The reference's log-probabilities are those of the model, are computed once, and belong to their pairs alone."""

import json

import pytest
import torch

from alignflow.data.artifacts import file_digest, payload_files
from alignflow.data.configs.training import ReferenceConfig
from alignflow.data.errors import TrainingError
from alignflow.data.records import assistant, read_table, user, write_table
from alignflow.data.run import Runtime
from alignflow.models import reference as module
from alignflow.models.policy import completion_logps, load_policy
from alignflow.models.reference import compute_reference
from alignflow.models.trainers.offline_rows import read_paired
from alignflow.models.trainers.reference_scores import is_of, read_references

CONFIG = ReferenceConfig(max_length=64)
WORDS = ["cat", "dog", "bird", "house", "hill", "rain"]


@pytest.fixture
def preferences(tmp_path):
    rows = [
        {
            "id": f"p{i}",
            "source": "t",
            "prompt": user(f"the {word}"),
            "chosen": assistant(f"{word} mat " * (i + 1)),
            "rejected": assistant("no"),
            "chosen_ended": True,
            "rejected_ended": i % 2 == 0,
        }
        for i, word in enumerate(WORDS)
    ]
    write_table(rows, "preferences", tmp_path / "pairs" / "train.parquet")
    write_table(rows[:2], "preferences", tmp_path / "pairs" / "heldout.parquet")
    return tmp_path / "pairs"


def pairs_of(checkpoint, preferences, run, max_length=64):
    tokenizer = load_policy(checkpoint, Runtime()).tokenizer
    return {
        side: read_paired(preferences / f"{side}.parquet", tokenizer, max_length, run, "test")
        for side in ("train", "heldout")
    }


def digests(directory):
    return {name: file_digest(directory / name) for name in payload_files(directory)}


def test_the_sums_are_those_of_the_model(tiny_checkpoint, preferences, new_run):
    run = new_run()
    metrics = compute_reference(CONFIG, checkpoint=tiny_checkpoint, preferences=preferences, run=run)
    policy, data = load_policy(tiny_checkpoint, Runtime()), pairs_of(tiny_checkpoint, preferences, run)
    found = read_references(run.out, data)
    for side, pairs in data.items():
        wanted = torch.stack([row.sum() for row in completion_logps(policy, pairs.answers, 8192)])
        torch.testing.assert_close(found[side].sums, wanted, atol=1e-5, rtol=1e-5)
    chosen = float(found["train"].sums[: len(WORDS)].mean())
    assert metrics["rows"] == 8 and metrics["logps/chosen"] == pytest.approx(chosen) and run.tokens > 0


def test_each_tokens_are_kept_where_they_are_wanted(tiny_checkpoint, preferences, new_run):
    for wanted in (False, True):
        run = new_run(str(wanted))
        compute_reference(
            CONFIG.model_copy(update={"per_token": wanted}),
            checkpoint=tiny_checkpoint,
            preferences=preferences,
            run=run,
        )
        for row in read_table(run.out / "train.parquet"):
            tokens = row["token_logps"]
            assert (tokens is not None) is wanted and row["mismatched_logps"] is None
            assert not wanted or (len(tokens) == row["tokens"] and sum(tokens) == pytest.approx(row["logps"], abs=1e-4))


def test_what_was_scored_before_a_kill_is_not_scored_again_and_the_bytes_are_the_same(
    tiny_checkpoint, preferences, new_run, monkeypatch
):
    monkeypatch.setattr(module, "ANSWERS_PER_COMMIT", 4)
    compute_reference(CONFIG, checkpoint=tiny_checkpoint, preferences=preferences, run=new_run("whole"))
    scored, calls = module.completion_logps, []

    def score_then_die(policy, rows, tokens):
        calls.append(len(rows))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return scored(policy, rows, tokens)

    monkeypatch.setattr(module, "completion_logps", score_then_die)
    with pytest.raises(KeyboardInterrupt):
        compute_reference(CONFIG, checkpoint=tiny_checkpoint, preferences=preferences, run=new_run("killed"))
    compute_reference(CONFIG, checkpoint=tiny_checkpoint, preferences=preferences, run=new_run("killed"))
    assert sum(calls[2:]) < sum(calls[:1]) + sum(calls[2:]) <= 16 and digests(new_run("killed").out) == digests(
        new_run("whole").out
    )


def test_it_says_of_which_model_it_is(tiny_checkpoint, preferences, new_run, tmp_path):
    import shutil

    run = new_run()
    compute_reference(CONFIG, checkpoint=tiny_checkpoint, preferences=preferences, run=run)
    other = shutil.copytree(tiny_checkpoint, tmp_path / "other")
    assert is_of(run.out, other), "the same bytes at another place"
    (other / "README.md").write_text("changed")
    assert is_of(run.out, tiny_checkpoint) and not is_of(run.out, other)
    assert str(tiny_checkpoint) not in (run.out / "reference.json").read_text()


@pytest.mark.parametrize("change", ["other pairs", "other tokens", "other length"])
def test_it_is_refused_for_anything_but_its_own_pairs(change, tiny_checkpoint, preferences, new_run):
    run = new_run()
    compute_reference(CONFIG, checkpoint=tiny_checkpoint, preferences=preferences, run=run)
    rows = read_table(preferences / "train.parquet")
    if change == "other pairs":
        rows = rows[::-1]
    elif change == "other tokens":
        rows[0]["chosen"] = assistant("cat cat cat cat")
    write_table(rows, "preferences", preferences / "train.parquet")
    with pytest.raises(TrainingError, match="to other rows or other tokens"):
        read_references(run.out, pairs_of(tiny_checkpoint, preferences, run, 12 if change == "other length" else 64))


def test_without_a_pair_it_stops(tiny_checkpoint, preferences, new_run):
    with pytest.raises(TrainingError, match=r"no preference pairs[^$]*align.max_length"):
        compute_reference(
            ReferenceConfig(max_length=8), checkpoint=tiny_checkpoint, preferences=preferences, run=new_run()
        )


def test_the_payload_names_the_digest_and_no_place(tiny_checkpoint, preferences, new_run):
    run = new_run()
    compute_reference(CONFIG, checkpoint=tiny_checkpoint, preferences=preferences, run=run)
    assert set(json.loads((run.out / "reference.json").read_text())) == {"checkpoint", "max_length"}
