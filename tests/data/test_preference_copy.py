"""A copy of labelled data for use elsewhere: whole, or not there."""

import json
from types import SimpleNamespace

import pandas
import pytest

from alignflow.data.errors import UserError
from alignflow.data.preference_copy import check_target, copy_table


def test_a_directory_that_is_not_there_or_empty_can_take_a_copy(tmp_path):
    (tmp_path / "empty").mkdir()
    assert check_target(tmp_path / "new") == tmp_path / "new" and check_target(tmp_path / "empty").is_dir()


@pytest.mark.parametrize("kind", ["file", "full"])
def test_what_is_there_is_never_overwritten(tmp_path, kind):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("x")
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="something is there already"):
        check_target(tmp_path / kind)


def test_rows_are_copied_as_json_lines_with_the_same_columns_and_missing_values(tmp_path, monkeypatch):
    rows = [
        {"prompt": [{"role": "user", "content": "h\u00e9"}], "chosen": "a\nb", "score": 0.5},
        {"prompt": [], "chosen": "", "score": None},
    ]
    (tmp_path / "payload" / "preferences").mkdir(parents=True)
    pandas.DataFrame(rows).to_parquet(tmp_path / "payload" / "preferences" / "train.parquet")
    (tmp_path / "payload" / "statistics.json").write_text("{}")
    monkeypatch.setattr("alignflow.data.preference_copy.manifest_text", lambda manifest: "{}")
    copy_table(SimpleNamespace(), tmp_path / "payload", "preferences", tmp_path / "copy", jsonl=True)
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == [
        "manifest.json",
        "statistics.json",
        "train.jsonl",
    ]
    lines = (tmp_path / "copy" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == rows
