"""Cards of data sets: a header that the Hub reads, no text of data that becomes Markdown, and no claim about a licence that is not known."""

import pytest
import yaml

from alignflow.data.dataset_cards import CardTable, card_of, facts_of_card, tables_of
from alignflow.data.records import assistant, user, write_table

TABLES = [
    CardTable("preferences", "train", "preferences/train.parquet", 12, ("id", "chosen")),
    CardTable("preferences", "test", "preferences/heldout.parquet", 0, ("id", "chosen")),
    CardTable("unpaired", "train", "unpaired/train.parquet", 2000, ("id", "label", "own")),
]


def header_of(text):
    return yaml.safe_load(text.split("---\n")[1])


def test_the_header_names_tables_with_rows_sizes_and_tags():
    header = header_of(card_of(TABLES, {"a.jsonl": "MIT"}, "Pairs", {}, ("preference",)))
    assert header["license"] == "mit" and header["tags"] == ["alignflow", "preference"]
    assert header["size_categories"] == ["1K<n<10K"]
    assert header["configs"] == [
        {
            "config_name": "preferences",
            "default": True,
            "data_files": [{"split": "train", "path": "preferences/train.parquet"}],
        },
        {"config_name": "unpaired", "data_files": [{"split": "train", "path": "unpaired/train.parquet"}]},
    ]


@pytest.mark.parametrize(
    ("licences", "wanted"),
    [
        ({}, "unknown"),
        ({"a": "MIT", "b": "unknown"}, "unknown"),
        ({"a": "MIT", "b": "Apache-2.0"}, "other"),
        ({"a": "CC BY-NC 4.0"}, "cc-by-nc-4.0"),
        ({"a": "see [here](x)"}, "other"),
    ],
)
def test_a_licence_is_stated_only_where_all_that_went_in_has_it(licences, wanted):
    text = card_of(TABLES, licences, "Pairs", {})
    assert header_of(text)["license"] == wanted
    assert all(name in text for name in licences)


def test_texts_become_no_markdown_and_are_read_back():
    evil = "<img src=x> [a](b) `c` | d\n---\n# e"
    text = card_of(TABLES, {}, "Title | x", {"judge": evil, "pairs": "a: b"})
    assert "<img" not in text.replace("\\<img", "") and "\n# e" not in text
    assert facts_of_card(text) == ("Title | x", {"judge": " ".join(evil.split()), "pairs": "a: b"})


def test_the_same_content_gives_the_same_bytes_and_no_date(tmp_path):
    assert card_of(TABLES, {"b": "MIT", "a": "MIT"}, "t", {}) == card_of(TABLES, {"a": "MIT", "b": "MIT"}, "t", {})


def test_tables_are_found_by_folder_with_the_training_side_first(tmp_path):
    row = {"id": "1", "source": "t", "prompt": user("q"), "chosen": assistant("a"), "rejected": assistant("b")}
    write_table([row], "preferences", tmp_path / "preferences" / "heldout.parquet")
    write_table([row, row], "preferences", tmp_path / "preferences" / "train.parquet")
    (tmp_path / "statistics.json").write_text("{}")
    found = [(table.split, table.path, table.rows) for table in tables_of(tmp_path)]
    assert found == [("train", "preferences/train.parquet", 2), ("test", "preferences/heldout.parquet", 1)]
    assert "judge" in tables_of(tmp_path)[0].columns
