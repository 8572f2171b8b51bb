"""Judge demonstrations: the judge's own question in both orders, with the right option."""

import json
from collections import Counter

import pytest
from judge_support import enclosed

from alignflow.data.errors import DataError
from alignflow.data.judging.gold import GoldPair
from alignflow.data.records import user
from alignflow.models.judges.demonstrations import demonstrations, write_demonstrations


def gold(first, second, label):
    return GoldPair("q", user("Which?"), (first, second), label)


def test_each_pair_is_asked_in_both_orders_and_answered_rightly():
    rows = list(demonstrations([gold("good", "bad", 1.0), gold("worse", "better", 0.0)]))
    assert len(rows) == 4
    for row in rows:
        question, answer = row["messages"]
        assert question["role"] == "user" and answer["role"] == "assistant"
        assert enclosed(question["content"], f"Answer {answer['content']}") in ("good", "better")
    assert Counter(row["messages"][1]["content"] for row in rows) == {"A": 2, "B": 2}


def test_ties_and_equal_answers_give_none_and_are_counted(tmp_path):
    pairs = [gold("a", "b", 0.5), gold("same", "same", 1.0), gold("a", "b", 1.0)]
    written = write_demonstrations(pairs, tmp_path / "demos.jsonl")
    assert (written.rows, written.pairs, written.dropped) == (2, 1, {"tie": 1, "identical answers": 1})
    assert len([json.loads(line) for line in (tmp_path / "demos.jsonl").read_text().splitlines()]) == 2


def test_nothing_is_overwritten_and_no_empty_file_is_written(tmp_path):
    (tmp_path / "there.jsonl").write_text("mine")
    with pytest.raises(DataError, match="--out"):
        write_demonstrations([gold("a", "b", 1.0)], tmp_path / "there.jsonl")
    with pytest.raises(DataError, match="none of 1 pairs"):
        write_demonstrations([gold("a", "b", 0.5)], tmp_path / "new.jsonl")
    assert (tmp_path / "there.jsonl").read_text() == "mine" and not (tmp_path / "new.jsonl").exists()
