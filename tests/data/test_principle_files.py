"""Principles in words: the shipped files are sound, and what is wrong in one's own is named."""

import pytest

from alignflow.data.errors import DataError
from alignflow.data.principle_files import built_in_names, read_principles


@pytest.mark.parametrize("name", ["helpful", "harmless", "honest", "concise", "code_review", "overall", "aspects"])
def test_the_shipped_files_are_read(name):
    assert name in built_in_names() and all(each.text and each.weight > 0 for each in read_principles(name))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("name: x\nprinciples: []", "principles"),
        ("name: x\nprinciples:\n - {name: a, text: b, wieght: 2}", "weight"),
        ("name: x\nprinciples:\n - {name: a, text: b}\n - {name: a, text: c}", "two principles"),
        ("name: x\nprinciples:\n - {name: A b, text: b}", "name"),
        ("name: [", "YAML"),
        ("- a", "valid dictionary"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path, text, named):
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(DataError) as caught:
        read_principles(str(tmp_path / "own.yaml"))
    assert named in str(caught.value)


def test_a_name_that_is_none_lists_those_there_are():
    with pytest.raises(DataError, match="concise"):
        read_principles("conzise")
