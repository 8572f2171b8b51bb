"""Texts of recipes that name a file, a folder or a Hub id."""

from pathlib import Path

import pytest

from alignflow.data.paths import LONGEST_NAME, checked_path, is_file, is_there


@pytest.mark.parametrize("text", ["model", "org/model", "/data/a b/ü.jsonl", "~/models", "x" * LONGEST_NAME])
def test_a_path_or_hub_id_stays_as_it_is(text):
    assert checked_path(text) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("  ", "empty"),
        ("a\0b", "NUL"),
        ("x" * (LONGEST_NAME + 1), "too long"),
        ("ü" * 128, "too long"),
        ("/a" * 2001, "too long"),
        ("/", "root"),
        ("//", "root"),
        ("~", "home directory"),
        ("~/x/..", "home directory"),
        ("~nobody-has-this-name/x", "home of a user"),
        ("a\udcff", "not UTF-8"),
    ],
)
def test_what_names_nothing_in_particular_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        checked_path(text)


def test_a_text_that_can_be_no_path_is_not_there(tmp_path):
    (tmp_path / "a").write_text("x")
    assert is_file(tmp_path / "a") and is_there(tmp_path) and not is_file(tmp_path)
    for text in ("a\0b", "x" * 5000):
        assert not is_there(Path(text)) and not is_file(Path(text))
