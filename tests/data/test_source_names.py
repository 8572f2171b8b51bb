"""Sources of one name are told apart in every table and message, and no folder of a machine is named that is not needed for it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignflow.data.configs.inputs import PrepareConfig, SourceConfig
from alignflow.data.parsing import parse_sources
from alignflow.data.source_names import short_name, source_names

PARTS = st.lists(st.sampled_from(["a", "b", "data", "train.jsonl"]), min_size=1, max_size=4)
PATHS = st.builds(lambda root, parts: root + "/".join(parts), st.sampled_from(["", "/"]), PARTS)


def named(*places, **kinds):
    sources = {kind: tuple(SourceConfig(path=path) for path in paths) for kind, paths in kinds.items()}
    return list(
        source_names(
            PrepareConfig(**sources), [SourceConfig(path=path, split=split) for path, split in places]
        ).values()
    )


@pytest.mark.parametrize(
    ("places", "wanted"),
    [
        ([("/home/me/train.jsonl", "train")], ["train.jsonl"]),
        ([("/x/a/train.jsonl", "train"), ("/x/b/train.jsonl", "train")], ["a/train.jsonl", "b/train.jsonl"]),
        ([("org/set", "train"), ("org/set", "test")], ["set [train]", "set [test]"]),
        ([("/data/t.csv", "train"), ("/old/data/t.csv", "train")], ["data/t.csv", "old/data/t.csv"]),
        ([("/data/t.csv", "train"), ("data/t.csv", "train")], ["data/t.csv", "data/t.csv (2)"]),
        ([(".", "train")], ["."]),
    ],
)
def test_a_name_is_as_short_as_tells_it_from_the_others(places, wanted):
    assert named(*places) == wanted


def test_sources_of_other_kinds_count_too_and_one_that_is_there_twice_has_one_name():
    assert named(("/x/a/t.csv", "train"), demonstrations=["/x/a/t.csv"], evaluation=["/x/b/t.csv"]) == [
        "a/t.csv",
        "b/t.csv",
    ]


@given(st.lists(PATHS, unique=True, max_size=6))
def test_no_two_paths_have_one_name_and_each_name_is_an_end_of_its_path(paths):
    names = named(*((path, "train") for path in paths))
    assert len(set(names)) == len(paths)
    assert all(
        path.endswith(name.removesuffix(" (2)").removesuffix(" (3)")) and not name.startswith("/")
        for path, name in zip(paths, names, strict=True)
    )


def test_a_name_that_is_taken_is_made_longer():
    assert short_name("/x/a/t.csv", [], {"t.csv"}) == "a/t.csv"


def test_rows_columns_and_formats_of_two_files_of_one_name_are_counted_apart(tmp_path):
    rows = {"a": {"prompt": "q", "completion": "a", "topic": 1}, "b": {"instruction": "r", "output": "a", "mood": 1}}
    for place, row in rows.items():
        (tmp_path / place).mkdir()
        (tmp_path / place / "train.jsonl").write_text(json.dumps(row) + "\n")
    sources = tuple(SourceConfig(path=str(tmp_path / place / "train.jsonl")) for place in rows)
    kept = parse_sources(sources, "demonstrations", PrepareConfig(demonstrations=sources))
    assert kept.unused == {"a/train.jsonl": ["topic"], "b/train.jsonl": ["mood"]}
    assert kept.formats == {"a/train.jsonl": "trl", "b/train.jsonl": "alpaca"}
    assert [row["source"] for row in kept.rows] == ["a/train.jsonl", "b/train.jsonl"]
