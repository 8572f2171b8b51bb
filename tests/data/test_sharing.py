"""Whether machines share a store stands in the store."""

import json

import pytest

from alignflow.data.errors import StoreError
from alignflow.data.sharing import SHARED, STORE_FILE, Sharing, sharing_of


def test_a_store_of_one_machine_or_none_yet_is_not_shared(tmp_path):
    assert sharing_of(tmp_path) is None
    (tmp_path / STORE_FILE).write_text('{"schema_version": 3}')
    assert sharing_of(tmp_path) is None


def test_times_of_a_shared_store_are_those_that_it_says(tmp_path):
    wanted = Sharing(beat_s=1.5, expiry_s=9)
    (tmp_path / STORE_FILE).write_text(json.dumps({SHARED: wanted.model_dump()}))
    assert sharing_of(tmp_path) == wanted


@pytest.mark.parametrize("text", ["", "[]", '{"shared": {"beat_s": -1}}', '{"shared": {"more": 1}}', "[" * 100000])
def test_a_file_that_does_not_say_it_is_an_error_and_no_answer(tmp_path, text):
    (tmp_path / STORE_FILE).write_text(text)
    with pytest.raises(StoreError, match="does not say whether machines share it"):
        sharing_of(tmp_path)
