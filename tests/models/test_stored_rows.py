"""Rows of a step come from the file of token ids; nothing of the others is in memory."""

import json
import os
import subprocess
import sys
from array import array

import numpy as np
import pytest

from alignflow.data.configs.training import SFTConfig
from alignflow.data.errors import TrainingError
from alignflow.data.records import assistant, user, write_table
from alignflow.data.rendering import encode_conversation, load_tokenizer
from alignflow.models import stored_rows
from alignflow.models.batching import EncodedRow, packed_length
from alignflow.models.trainers.pairs import read_pairs
from alignflow.models.trainers.sft import read_rows, train_sft

WORDS = ["cat", "dog", "bird", "house", "hill", "rain"]


@pytest.fixture
def demonstrations(tmp_path):
    rows = [
        {"id": f"d{i}", "source": "t", "messages": [*user(f"the {word}"), *assistant(f"{word} mat " * (i + 1))]}
        for i, word in enumerate(WORDS)
    ]
    write_table(rows, "demonstrations", tmp_path / "data" / "train.parquet")
    write_table(rows[:2], "demonstrations", tmp_path / "data" / "heldout.parquet")
    return tmp_path / "data", rows


@pytest.fixture
def tokenizer(tiny_checkpoint):
    return load_tokenizer(tiny_checkpoint)


def test_rows_that_fit_are_read_in_their_order_and_the_others_counted(demonstrations, tokenizer, new_run):
    path, rows = demonstrations
    run = new_run()
    wanted = {row["id"]: encode_conversation(tokenizer, row["messages"]) for row in rows}
    longest = sorted(len(ids) for ids, _ in wanted.values())[-3]
    ids, found = read_rows(path / "train.parquet", tokenizer, longest, run)
    kept = [name for name, (tokens, _) in wanted.items() if len(tokens) <= longest]
    assert (
        list(ids) == kept
        and len(kept) == 4
        and run.warnings == [f"2 rows of train.parquet are over sft.max_length {longest} and were dropped"]
    )
    assert [[*row.prompt_ids, *row.completion_ids] for row in found] == [wanted[name][0] for name in kept]
    assert list(found.lengths) == [len(row) for row in found] and list(found.supervised) == [
        row.supervised for row in found
    ]
    assert found[1:3] == [found[1], found[2]] and list(found.reordered([2, 0])) == [found[2], found[0]]
    assert ids[-1] == kept[-1] and ids[:2] == kept[:2]


def test_what_is_held_for_each_row_is_a_few_numbers(demonstrations, tokenizer, new_run):
    path, _ = demonstrations
    ids, rows = read_rows(path / "train.parquet", tokenizer, 64, new_run())
    held = [*vars(rows).values(), *vars(ids).values()]
    assert all(
        isinstance(value, np.ndarray | str) or type(value).__module__.startswith("alignflow.data") for value in held
    )
    assert (
        isinstance(rows.lengths, array)
        and rows.lengths.itemsize == 4
        and all(type(length) is int for length in rows.lengths)
    )


def test_a_step_reads_its_own_rows_alone(demonstrations, tokenizer, new_run, monkeypatch):
    path, _ = demonstrations
    _, rows = read_rows(path / "train.parquet", tokenizer, 64, new_run())
    read = []
    monkeypatch.setattr(stored_rows, "EncodedRow", lambda *ids: read.append(ids) or EncodedRow(*ids))
    assert len(rows) == 6 and sum(rows.lengths) > sum(rows.supervised) and read == []
    assert len([rows[index] for index in (4, 1)]) == len(read) == 2


def test_rows_without_a_supervised_token_stop_the_stage_and_are_named(demonstrations, tokenizer, new_run, tmp_path):
    rows = [*demonstrations[1], {"id": "silent", "source": "t", "messages": user("the cat")}]
    write_table(rows, "demonstrations", tmp_path / "silent.parquet")
    with pytest.raises(TrainingError, match="1 rows have no supervised token: silent"):
        read_rows(tmp_path / "silent.parquet", tokenizer, 64, new_run())


def test_a_second_training_on_the_same_rows_encodes_nothing(demonstrations, tiny_checkpoint, new_run, monkeypatch):
    from alignflow.data import encoded_kinds

    asked, encode = [], encoded_kinds.encode_conversations
    monkeypatch.setattr(
        encoded_kinds,
        "encode_conversations",
        lambda tokenizer, rows: asked.append(len(rows)) or encode(tokenizer, rows),
    )
    metrics = [
        train_sft(
            SFTConfig(learning_rate=rate, max_steps=1, batch_size=4, max_length=64),
            base=tiny_checkpoint,
            demonstrations=demonstrations[0],
            run=new_run(),
        )
        for rate in (1e-3, 2e-3)
    ]
    assert asked == [6, 2] and metrics[0]["loss"] == metrics[1]["loss"]


def test_pairs_are_read_whole_with_their_lengths_and_records(tmp_path, tokenizer, new_run):
    rows = [
        {
            "id": f"p{i}",
            "source": "t",
            "prompt": user(f"the {word}"),
            "chosen": assistant(f"{word} " * (1 + 40 * (i == 1))),
            "rejected": [*assistant("no"), *user("why"), *assistant("red")] if i == 2 else assistant("no"),
            "chosen_ended": True,
            "rejected_ended": True,
            "soft_label": 0.7,
            "margin": None,
        }
        for i, word in enumerate(WORDS)
    ]
    write_table(rows, "preferences", tmp_path / "train.parquet")
    run = new_run()
    pairs = read_pairs(tmp_path / "train.parquet", tokenizer, 40, run, "test")
    assert list(pairs.ids) == ["p0", "p2", "p3", "p4", "p5"] and run.warnings == [
        "1 pairs of train are over max_length 40 and were dropped"
    ]
    assert list(pairs.lengths) == [packed_length(pair) for pair in zip(pairs.chosen, pairs.rejected, strict=True)]
    assert pairs.both([3, 1]) == [pairs.chosen[3], pairs.chosen[1], pairs.rejected[3], pairs.rejected[1]]
    assert pairs.soft_label.tolist() == pytest.approx([0.7] * 5) and pairs.margin.isnan().all()


def test_an_answer_without_a_token_is_refused_by_its_name(tmp_path, tokenizer, new_run):
    row = {
        "source": "t",
        "prompt": user("the cat"),
        "chosen": assistant("cat"),
        "rejected": assistant(""),
        "chosen_ended": True,
        "rejected_ended": False,
    }
    write_table([{**row, "id": "empty"}], "preferences", tmp_path / "train.parquet")
    with pytest.raises(TrainingError, match="the answer has no tokens") as caught:
        read_pairs(tmp_path / "train.parquet", tokenizer, 40, new_run(), "test")
    assert caught.value.where == "test, row empty"


SCRIPT = """
import json, os, sys, time
from pathlib import Path
from alignflow.data import encoded_kinds
from alignflow.data.rendering import load_tokenizer
from alignflow.data.run import Run, Runtime
from alignflow.models.engines import group
from alignflow.models.trainers.sft import read_rows

root, rank = Path(sys.argv[1]), int(os.environ["RANK"])
group.SIGN_OF_LIFE_S = 0.0
asked, encode = [], encoded_kinds.encode_conversations

def slow(tokenizer, rows):
    asked.append(len(rows))
    time.sleep(0.5)
    return encode(tokenizer, rows)

encoded_kinds.encode_conversations = slow
group.join(Runtime())
run = Run(out=root, side=root, work=root / "work", rows=root, runtime=Runtime(), main=rank == 0)
ids, rows = read_rows(Path(sys.argv[3]), load_tokenizer(sys.argv[2]), 64, run)
(root / f"found-{rank}.json").write_text(json.dumps({"asked": asked, "ids": list(ids), "rows": [row.completion_ids for row in rows]}))
group.leave()
"""


@pytest.mark.system
def test_of_two_processes_the_first_encodes_and_the_other_waits_and_maps(
    tmp_path, demonstrations, tiny_checkpoint, request
):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        str(tmp_path / "script.py"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(request.config.rootpath), "CUDA_VISIBLE_DEVICES": ""}
    arguments = [str(tmp_path), str(tiny_checkpoint), str(demonstrations[0] / "train.parquet")]
    done = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-4000:]
    first, second = (json.loads((tmp_path / f"found-{rank}.json").read_text()) for rank in range(2))
    assert (
        first["asked"] == [6]
        and second["asked"] == []
        and first["rows"] == second["rows"]
        and first["ids"] == [f"d{i}" for i in range(6)]
    )
