"""Where the interpreter is that has vLLM."""

from __future__ import annotations

import sys

from alignflow.data.vllm_environment import VARIABLE, vllm_python


def test_the_users_own_interpreter_comes_first(monkeypatch):
    monkeypatch.setenv(VARIABLE, sys.executable)
    assert str(vllm_python()) == sys.executable


def test_an_interpreter_that_is_not_there_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "python"))
    assert vllm_python() is None
