"""Which engines exchange texts, and how one is made."""

import pytest

from alignflow.data.catalogue import GENERATORS, GeneratorRow
from alignflow.data.configs.generators import GeneratorConfig
from alignflow.data.errors import RecipeError, UserError
from alignflow.models.generation.base import make_generator
from alignflow.models.generation.chat import is_chat, make_chat_engine

SERVER = GeneratorConfig(name="server", options={"urls": ["http://127.0.0.1:1/v1"], "model": "m"})


def test_an_endpoint_is_one_and_transformers_is_not():
    assert is_chat(SERVER) and not is_chat(None) and not is_chat(GeneratorConfig(name="transformers"))


def test_where_tokens_are_needed_an_endpoint_is_refused(tmp_path, run):
    with pytest.raises(RecipeError, match="needs token ids"):
        make_generator(tmp_path, run.runtime, SERVER)


def test_a_wrong_option_is_named(tmp_path, run):
    with pytest.raises(RecipeError, match="colour"):
        make_chat_engine(tmp_path, GeneratorConfig(name="server", options={**SERVER.options, "colour": 1}), run)


def test_a_client_that_is_not_installed_is_said_with_what_installs_it(tmp_path, run, monkeypatch):
    def missing(self):
        raise ModuleNotFoundError("No module named 'openai'", name="openai")

    monkeypatch.setattr(GeneratorRow, "resolve", missing)
    with pytest.raises(UserError, match="needs openai") as error:
        make_chat_engine(tmp_path, SERVER, run)
    assert "alignflow[server]" in error.value.do and "server" in GENERATORS


def test_nothing_is_asked_before_the_first_question(tmp_path, run):
    make_chat_engine(tmp_path, SERVER, run).close()
    assert not (run.side / "usage.json").exists()
