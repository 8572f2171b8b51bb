"""A .json file is a list of rows, an object with one, or one row; where it could be two of these it is refused."""

import json

import pytest

from alignflow.data.configs.inputs import SourceConfig
from alignflow.data.errors import DataError
from alignflow.data.sources.reading import read_rows

ROWS = [{"instruction": "a", "output": "b"}, {"instruction": "c", "output": "d"}]
TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


@pytest.fixture
def read(tmp_path):
    def read_it(value, split="train"):
        path = tmp_path / "rows.json"
        path.write_text(json.dumps(value))
        return list(read_rows(SourceConfig(path=str(path), split=split)))

    return read_it


@pytest.mark.parametrize(
    "value",
    [
        ROWS,
        {"data": ROWS},
        {"whatever": ROWS},
        {"version": "1", "about": {"by": "x"}, "tags": ["a"], "examples": ROWS, "total": 2, "more": None},
        {"instructions": ROWS},
        {"test": ROWS},
    ],
)
def test_a_list_of_rows_stands_alone_or_under_any_key(read, value):
    assert read(value) == ROWS


@pytest.mark.parametrize(
    "row",
    [
        ROWS[0],
        {"messages": TURNS},
        {"messages": TURNS, "tools": [{"name": "w"}]},
        {"conversations": [{"from": "human", "value": "a"}]},
        {"instruction": "a", "output": "b", "history": [["c", "d"]]},
        {"prompt": "a", "completions": ["b", "c"], "scores": [1, 2]},
        {"prompt": "a", "answers": [{"text": "b", "rank": 1}, {"text": "c", "rank": 2}]},
    ],
)
def test_one_object_is_one_row_and_its_lists_are_fields(read, row):
    assert read(row) == [row]


def test_rows_may_stand_under_the_key_of_one_of_their_columns(read):
    assert read({"conversations": [{"conversations": TURNS}] * 2}) == [{"conversations": TURNS}] * 2


@pytest.mark.parametrize(("split", "wanted"), [("train", ROWS[:1]), ("test", ROWS[1:]), ("eval", ROWS[1:])])
def test_of_several_lists_that_of_the_split_is_read(read, split, wanted):
    assert read({"train": ROWS[:1], "test": ROWS[1:]}, split) == wanted


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            {"easy": ROWS, "hard": ROWS},
            r"several lists of rows, and none is the split 'train': 'easy' \(2\), 'hard' \(2\)",
        ),
        ({"text": "About this data.", "data": ROWS}, "it can be one row, which has 'text', or the rows under 'data'"),
        ({"prompt": ["a", "b"], "completion": ["c", "d"]}, "it holds columns .prompt, completion., and no rows"),
        ({"prompt": {"0": "a", "1": "b"}, "completion": {"0": "c", "1": "d"}}, "it holds columns"),
    ],
)
def test_what_can_be_meant_in_two_ways_is_refused_and_says_so(read, value, message):
    with pytest.raises(DataError, match=message):
        read(value)


@pytest.mark.parametrize(
    ("value", "split", "wanted"),
    [
        ({"train": ROWS, "test": []}, "train", ROWS),
        ({"train": [], "test": ROWS}, "test", ROWS),
        ({"train": [], "test": ROWS}, "train", []),
        ({"train": ROWS, "test": []}, "test", []),
        ({"trainset": ROWS[:1], "testset": ROWS[1:]}, "test", ROWS[1:]),
        ({"test": ROWS, "tags": []}, "train", ROWS),
        ({"train_sft": ROWS, "train_gen": ROWS[:1]}, "train_gen", ROWS[:1]),
        ({"easy": ROWS, "hard": ROWS[:1]}, "hard", ROWS[:1]),
        ({"examples": ROWS, "evaluation": ["bleu"]}, "train", ROWS),
    ],
)
def test_a_list_that_is_named_as_a_split_is_read_for_that_split_alone(read, value, split, wanted):
    assert read(value, split) == wanted


@pytest.mark.parametrize(
    ("value", "split", "message"),
    [
        ({"train": ROWS}, "test", "no list of the split 'test'(.|\n)*there are: train"),
        ({"test": ROWS, "dev": []}, "train", "no list of the split 'train'"),
        ({"data": ROWS, "test": []}, "train", "no list of the split 'train'"),
        ({"val": ROWS, "dev": ROWS}, "validation", "several lists of the split"),
        ({"test": ["a"]}, "validation", "no list of the split 'validation'"),
    ],
)
def test_an_object_without_a_list_of_the_split_is_refused(read, value, split, message):
    with pytest.raises(DataError, match=message):
        read(value, split)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.ndjson", "rows.json"])
@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ROWS),
        f"\ufeff\n {json.dumps(ROWS, indent=2)}\n",
        "\n".join(json.dumps(row, indent=2) for row in ROWS),
        "\n\n".join(json.dumps(row, indent="\t") for row in ROWS).replace("\n", "\r\n"),
    ],
)
def test_rows_over_several_lines_are_read_under_the_names_of_lines_too(tmp_path, name, text):
    """`jq` writes them, and so does whoever gives a list the name .jsonl: each line was a broken one."""
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert list(read_rows(SourceConfig(path=str(tmp_path / name)))) == ROWS


@pytest.mark.parametrize(
    ("text", "reasons"),
    [
        ('["a", "b"]\n{"x": 1}\n', ["not_a_row", None]),
        (json.dumps(TURNS), ["not_a_row"]),
        ('{"x": {"y": 1},\n{"x": 1}\n', ["not_json", None]),
        ('[{"x": "\\ud800"}, 3, {"x": 1}]', ["lone_surrogate", "not_a_row", None]),
    ],
)
def test_lines_that_are_no_rows_stay_broken_one_by_one(tmp_path, text, reasons):
    (tmp_path / "rows.jsonl").write_text(text)
    found = list(read_rows(SourceConfig(path=str(tmp_path / "rows.jsonl"))))
    assert [getattr(row, "reason", None) for row in found] == reasons
