"""What the last good run of a recipe took."""

import json

import pytest

from alignflow.tasks.store.last_good_run import _file, keys_in, latest, remember


def test_steps_keep_their_keys_until_a_run_takes_others(store):
    remember(store, "one", {"sft": "a", "reward": "b"})
    remember(store, "one", {"sft": "c"})
    remember(store, "other", {"sft": "d"})
    assert keys_in(_file(store, "one")) == {"sft": "c", "reward": "b"}
    assert latest(store, "one", "sft") is None, "the store has no such artifact"
    assert latest(store, "never", "sft") is None


def test_a_damaged_file_is_forgotten_and_told(store, capsys):
    remember(store, "damaged", {"sft": "a"})
    file = _file(store, "damaged")
    file.write_bytes(file.read_bytes().replace(b'"a"', b'"b"'))
    with pytest.raises(ValueError):
        keys_in(file)
    assert latest(store, "damaged", "sft") is None and "are unknown until" in capsys.readouterr().err


def test_a_file_of_an_older_alignflow_is_read_unless_it_has_something_else(tmp_path):
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"sft": "a"}))
    assert keys_in(file) == {"sft": "a"}
    file.write_text(json.dumps({"sft": 3}))
    with pytest.raises(ValueError):
        keys_in(file)
