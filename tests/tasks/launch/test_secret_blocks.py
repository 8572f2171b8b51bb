"""Secret blocks, without a server; with one: tests/system/test_server_engine.py."""

import pytest
from prefect.blocks.system import Secret

from alignflow.data.errors import UserError
from alignflow.tasks.launch.secret_blocks import read_block


def test_a_block_that_the_server_does_not_have_is_named(monkeypatch):
    def load(name, _sync):
        raise ValueError(f"Unable to find block document named {name}")

    monkeypatch.setattr(Secret, "load", load)
    with pytest.raises(UserError, match="no Secret block 'judge-key'"):
        read_block("judge-key")


def test_an_empty_block_is_said(monkeypatch):
    monkeypatch.setattr(Secret, "load", lambda name, _sync: Secret(value=" "))
    with pytest.raises(UserError, match="is empty"):
        read_block("judge-key")


def test_the_content_is_what_was_saved(monkeypatch):
    monkeypatch.setattr(Secret, "load", lambda name, _sync: Secret(value="sk-1"))
    assert read_block("judge-key") == "sk-1"
