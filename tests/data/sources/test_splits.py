"""Train and test files of a folder are never read as one: names tell the split, or the folder is refused."""

import json

import pytest

from alignflow.data.configs.inputs import SourceConfig
from alignflow.data.errors import DataError
from alignflow.data.sources.reading import chosen_files, read_rows
from alignflow.data.sources.splits import listed, split_among_rows, split_of, split_of_row


@pytest.fixture
def folder(tmp_path):
    """Write files whose one row names its file; returns the folder."""

    def make(*names, **contents):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"prompt": name} | contents) + "\n")
        return tmp_path

    return make


def read(path, split="train", **source):
    return [row["prompt"] for row in read_rows(SourceConfig(path=str(path), split=split, **source))]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.jsonl", "train"),
        ("TRAIN.jsonl.gz", "train"),
        ("alpaca_test.json", "test"),
        ("my-validation-2.csv", "validation"),
        ("dev.tsv", "validation"),
        ("eval.jsonl", "test"),
        ("train/0.jsonl", "train"),
        ("data/test/part.0.parquet", "test"),
        ("train-00000-of-00012.parquet", "train"),
        ("train_sft-00000-of-00003.parquet", "train_sft"),
        ("dolly-test-00000-of-00001.arrow", "test"),
        ("heldout.parquet", "heldout"),
        ("trainset.jsonl", "train"),
        ("my_TestSet.csv", "test"),
        ("traindata.jsonl", "train"),
        ("devfile-2.tsv", "validation"),
        ("dataset.jsonl", ""),
        ("1.jsonl", ""),
        ("train_test_split.jsonl", ""),
        ("contest.jsonl", ""),
        ("trainers.jsonl", ""),
        ("questions-00000-of-00002.parquet", ""),
    ],
)
def test_a_name_tells_the_split(name, split):
    assert split_of(name) == split


@pytest.mark.parametrize(
    ("split", "wanted"),
    [("train", ["train.jsonl"]), ("test", ["test.jsonl"]), ("validation", ["dev.jsonl"]), ("val", ["dev.jsonl"])],
)
@pytest.mark.parametrize("pattern", ["", "*.jsonl"])
def test_only_the_files_of_the_split_are_read_and_the_others_are_named(folder, split, wanted, pattern):
    path = folder("train.jsonl", "test.jsonl", "dev.jsonl") / pattern
    assert read(path, split) == wanted
    assert len(chosen_files(SourceConfig(path=str(path), split=split)).left_out) == 2


def test_the_files_of_a_test_set_are_not_read_for_training(folder):
    assert read(folder("trainset.jsonl", "testset.jsonl")) == ["trainset.jsonl"]


def test_shards_of_a_split_are_read_in_order(folder):
    names = [f"data/train-0000{number}-of-00003.jsonl" for number in range(3)]
    assert read(folder(*names, "data/test-00000-of-00001.jsonl")) == names


def test_where_names_tell_nothing_all_files_are_read(folder):
    assert read(folder("1.jsonl", "2.jsonl", "more/3.jsonl")) == ["1.jsonl", "2.jsonl", "more/3.jsonl"]


def test_a_folder_of_one_split_is_read_unless_another_one_is_asked_for(folder):
    path = folder("test.jsonl", "more_test.jsonl")
    assert len(read(path)) == len(read(path, "test")) == 2
    with pytest.raises(DataError, match="no file of the split 'validation'"):
        read(path, "validation")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ("train.jsonl", "extra.jsonl"),
            "the name of 'train.jsonl' tells its split, and that of 'extra.jsonl' does not",
        ),
        (("test.jsonl", "validation.jsonl"), "no file of the split 'train'"),
        (("train_sft-00000-of-00001.jsonl", "train_gen-00000-of-00001.jsonl"), "there are: train_gen, train_sft"),
    ],
)
def test_a_folder_whose_names_do_not_tell_the_split_is_refused(folder, names, message):
    with pytest.raises(DataError, match=message):
        read(folder(*names))


def test_files_that_differ_in_kind_are_refused_unless_the_format_is_named(folder):
    folder("1.jsonl", completion="a")
    path = folder("2.jsonl", chosen="a", rejected="b")
    with pytest.raises(DataError, match="'1.jsonl' holds prompts with an answer, and '2.jsonl' holds pairs"):
        read(path)
    assert read(path, format="trl") == ["1.jsonl", "2.jsonl"]


def test_a_field_may_be_missing_or_null_in_one_file_and_text_in_another(folder):
    folder("1.jsonl", completion="a", system=None)
    folder("2.jsonl", completion="a", system="Be short.")
    path = folder("3.jsonl", completion="a", topic="x")
    rows = list(read_rows(SourceConfig(path=str(path))))
    assert [row.get("system") for row in rows] == [None, "Be short.", None] and rows[2]["topic"] == "x"


def test_an_answer_that_is_null_or_missing_in_the_first_row_or_file_is_no_other_kind(folder):
    folder("1.jsonl", completion=None)
    folder("2.jsonl", completion="a")
    path = folder("3.jsonl")
    with open(path / "3.jsonl", "a") as file:
        file.write(json.dumps({"prompt": "more", "completion": "b"}) + "\n")
    assert read(path) == ["1.jsonl", "2.jsonl", "3.jsonl", "more"]


def test_files_that_are_left_out_are_named_and_those_that_nobody_takes_for_data_come_last(folder):
    path = folder(
        "1.jsonl",
        "about.json",
        "dataset_info.json",
        "README.md",
        "more/LICENSE",
        "old.xlsx",
        "notes.pdf",
        "part-0",
        ".hidden.jsonl",
        ".git/x",
    )
    left_out = chosen_files(SourceConfig(path=str(path))).left_out
    unknown = dict.fromkeys(["old.xlsx", "notes.pdf", "part-0"], "no kind of data that is known")
    describing = dict.fromkeys(["dataset_info.json", "README.md", "more/LICENSE"], "describes the data")
    assert left_out == {
        "about.json": "a .json beside other data",
        ".git": "hidden",
        ".hidden.jsonl": "hidden",
        **unknown,
        **describing,
    }
    assert listed(left_out) == (
        "about.json (a .json beside other data), notes.pdf (no kind of data that is known), old.xlsx (no kind of data that is known), "
        "part-0 (no kind of data that is known); README.md, dataset_info.json, more/LICENSE; 2 hidden (.git, .hidden.jsonl)"
    )


@pytest.mark.parametrize(
    ("name", "is_read"),
    [("README.txt", False), ("LICENSE-CC.txt", False), ("license.jsonl", True), ("readme_questions.jsonl", True)],
)
def test_a_text_that_describes_data_is_not_read_as_data(folder, name, is_read):
    chosen = chosen_files(SourceConfig(path=str(folder("1.jsonl", name))))
    assert (name in [path.name for path in chosen.files], name in chosen.left_out) == (is_read, not is_read)


def test_of_many_files_the_first_few_are_named():
    assert listed({f"{number}.xlsx": "x" for number in range(9)}).endswith("4.xlsx (x), and 4 more")


def test_a_column_tells_the_split_of_a_row_and_the_source_chooses_among_them():
    assert split_of_row({"split": "dev"}) == "validation" and split_of_row({"split": "train_sft"}) == "train"
    assert split_of_row({"split": "a train ride"}) == split_of_row({"split": 3}) == split_of_row({}) == ""
    assert split_among_rows({"train", "test"}, "train", "a") == "train"
    assert split_among_rows({"validation"}, "val", "a") == "validation"
    assert split_among_rows({"test"}, "train", "a") == ""
    with pytest.raises(DataError, match="no row of the split 'test'"):
        split_among_rows({"train"}, "test", "a")
