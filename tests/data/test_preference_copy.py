"""A copy of labelled data for use elsewhere: whole, or not there."""

import pytest

from alignflow.data.errors import UserError
from alignflow.data.preference_copy import check_target


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
