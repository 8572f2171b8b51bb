"""Pairs to label: the same for the same data, blind to who wrote what, and everything left out is counted."""

import json
import random

import pytest

from alignflow.data.annotation.pairs import read_pairs, rows_of_artifact, rows_of_source, take_pairs, write_pairs_once
from alignflow.data.errors import DataError
from alignflow.data.records import assistant, user, write_table

ROWS = [{"prompt": user(f"q{number}"), "completions": ["yes", "no", "maybe"]} for number in range(30)]


def test_the_same_data_gives_the_same_pairs_in_any_order():
    turned = [{**row, "completions": row["completions"][::-1]} for row in random.Random(1).sample(ROWS, len(ROWS))]
    first, second = take_pairs(ROWS, 10), take_pairs(turned, 10)
    assert first.pairs == second.pairs and len(first.pairs) == 10
    assert first.left_out == {"other pairs of the same prompt": 60, "over --max-pairs": 20}


def test_answers_stand_by_their_texts_and_not_by_who_was_chosen():
    (pair,) = take_pairs([{"prompt": user("q"), "chosen": assistant("z"), "rejected": assistant("a")}], None).pairs
    assert (pair.response_a, pair.response_b) == ("a", "z")


def test_equal_and_blank_answers_and_repeated_pairs_are_left_out_and_counted():
    rows = [{"prompt": user("q"), "completions": texts} for texts in (["a", "A "], ["a", " "], ["a", "b"], ["b", "a"])]
    found = take_pairs(rows, None)
    assert len(found.pairs) == 1
    assert found.left_out == {"equal answers": 1, "a blank answer": 1, "the same pair twice": 1}


def test_several_pairs_of_a_prompt_are_taken_where_that_is_asked_for():
    assert len(take_pairs(ROWS[:1], None, per_prompt=3).pairs) == 3


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "completions": ["a", "b"]},
        {"prompt": "q", "chosen": "a", "rejected": "b"},
        {"instruction": "q", "response1": "a", "response2": "b", "annotator1": 0},
        {"prompt": "q", "responses": ["a", "b"], "scores": [1, 2]},
    ],
)
def test_pairs_come_from_data_of_any_shape(row, tmp_path):
    (tmp_path / "data.jsonl").write_text(json.dumps(row) + "\n")
    (pair,) = take_pairs(rows_of_source(str(tmp_path / "data.jsonl")), None).pairs
    assert (pair.prompt, pair.response_a, pair.response_b) == (user("q"), "a", "b")


def test_data_without_two_answers_is_refused(tmp_path):
    (tmp_path / "data.jsonl").write_text('{"prompt": "q"}\n')
    with pytest.raises(DataError, match="no row has two answers"):
        rows_of_source(str(tmp_path / "data.jsonl"))


def test_an_artifact_gives_its_completions_or_its_pairs(tmp_path):
    write_table(
        [{"id": "1", "source": "t", **ROWS[0], "ended": [True] * 3}],
        "completions",
        tmp_path / "completions" / "train.parquet",
    )
    assert rows_of_artifact(tmp_path)[0]["completions"] == ["yes", "no", "maybe"]
    with pytest.raises(DataError, match="no completions, pairs or rankings"):
        rows_of_artifact(tmp_path / "completions")


def test_an_annotation_keeps_its_pairs_and_refuses_others(tmp_path):
    pairs = take_pairs(ROWS, 5).pairs
    with pytest.raises(DataError, match="no pairs in it yet"):
        read_pairs(tmp_path / "new")
    write_pairs_once(tmp_path / "new", pairs)
    write_pairs_once(tmp_path / "new", pairs)
    assert read_pairs(tmp_path / "new") == pairs
    with pytest.raises(DataError, match="other pairs"):
        write_pairs_once(tmp_path / "new", pairs[:4])
    with pytest.raises(DataError, match="not one pair"):
        write_pairs_once(tmp_path / "empty", [])
    (tmp_path / "new" / "pairs.jsonl").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        read_pairs(tmp_path / "new")


def test_pairs_of_a_prompt_are_counted_over_its_rows():
    rows = [{"prompt": user("q"), "chosen": assistant("good"), "rejected": assistant(bad)} for bad in ("bad", "worse")]
    taken = take_pairs(rows, None)
    assert len(taken.pairs) == 1 and taken.left_out == {"other pairs of the same prompt": 1}
