"""Licences are kept by path: no source's licence stands for another's, and no folder of a machine gets into a result."""

import pytest

from alignflow.data.configs.inputs import PrepareConfig, SourceConfig
from alignflow.data.licences import licences_by_path
from alignflow.data.prepare import licences


@pytest.mark.parametrize(
    ("stated", "wanted"),
    [
        ([("/home/me/train.jsonl", "MIT")], {"train.jsonl": "MIT"}),
        (
            [("/home/me/a/train.jsonl", "MIT"), ("/home/me/b/train.jsonl", "CC-BY-4.0")],
            {"a/train.jsonl": "MIT", "b/train.jsonl": "CC-BY-4.0"},
        ),
        (
            [("/x/a/d/t.csv", "MIT"), ("/x/b/d/t.csv", "CC0"), ("/x/u.csv", "CC0")],
            {"a/d/t.csv": "MIT", "b/d/t.csv": "CC0", "u.csv": "CC0"},
        ),
        ([("org/one", "MIT"), ("other/one", "CC0")], {"org/one": "MIT", "other/one": "CC0"}),
        ([("/x/t.csv", "unknown"), ("/x/t.csv", "MIT")], {"t.csv": "MIT"}),
        ([("/x/t.csv", "CC0"), ("/x/t.csv", "MIT")], {"t.csv": "CC0; MIT"}),
    ],
)
def test_a_path_is_as_short_as_tells_it_from_the_others(stated, wanted):
    assert licences_by_path(stated) == wanted


def test_the_licence_of_an_input_with_the_same_name_stays():
    known = {"train.jsonl": "MIT"}
    assert licences_by_path([("/home/me/b/train.jsonl", "CC0")], known) == {
        "train.jsonl": "MIT",
        "b/train.jsonl": "CC0",
    }
    assert licences_by_path([("/home/me/b/train.jsonl", "MIT")], known) == known


def test_two_sources_of_one_name_have_both_licences_in_the_statistics():
    sources = tuple(
        SourceConfig(path=f"/data/{place}/train.jsonl", licence=licence)
        for place, licence in (("a", "MIT"), ("b", "CC0"))
    )
    assert licences(PrepareConfig(demonstrations=sources)) == {"a/train.jsonl": "MIT", "b/train.jsonl": "CC0"}
