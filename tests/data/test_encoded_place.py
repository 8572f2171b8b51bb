"""Files of token ids, whose names end with the digest of their bytes."""

import pytest

from alignflow.data.artifacts import file_digest
from alignflow.data.encoded_place import TABLE_DIGITS, check_whole, directory_of
from alignflow.data.seals import SealError


def test_a_table_has_a_directory_by_its_digest(tmp_path):
    assert directory_of(tmp_path, "a" * 64) == tmp_path / ("a" * TABLE_DIGITS)


def test_a_file_is_whole_where_its_bytes_have_the_digest_of_its_name(tmp_path):
    (tmp_path / "x").write_bytes(b"ids")
    path = (tmp_path / "x").rename(tmp_path / f"rows-1-{file_digest(tmp_path / 'x')}.arrow")
    check_whole(path)
    path.write_bytes(b"idz")
    with pytest.raises(SealError, match="not those that were written"):
        check_whole(path)
