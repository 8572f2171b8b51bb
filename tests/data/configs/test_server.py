"""Options of the engine `server`: what is refused before anything is asked."""

import pytest
from pydantic import ValidationError

from alignflow.data.configs.base import in_key
from alignflow.data.configs.generators import GeneratorConfig
from alignflow.data.configs.server import ServeOptions, ServerOptions, asks_elsewhere, block_variable

URL = "http://127.0.0.1:8000/v1"


def options(**changes):
    return ServerOptions.model_validate({"urls": [URL], "model": "m", **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"urls": []}, "give urls"),
        ({"serve": {}}, "give urls"),
        ({"model": None}, "model is missing"),
        ({"urls": ["ftp://host/v1"]}, "no address"),
        ({"urls": ["http://"]}, "no address"),
        ({"urls": ["http://host:99999/v1"]}, "no address"),
        ({"urls": ["https://user:secret@host/v1"]}, "a login or a query"),
        ({"urls": ["https://host/v1?api-key=secret"]}, "a login or a query"),
        ({"urls": [URL, URL + "/"]}, "twice"),
        ({"api_key_env": "LD_PRELOAD"}, "never passed"),
        ({"api_key_env": "PREFECT_API_KEY"}, "never passed"),
        ({"api_key_env": "sk-1234"}, "string"),
        ({"api_key_env": "KEY", "api_key_block": "key"}, "not both"),
        ({"price_per_million_input": 1.0}, "both prices"),
        ({"max_cost": 1.0}, "max_cost needs"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, words):
    with pytest.raises(ValidationError, match=words) as error:
        options(**changes)
    assert "secret" not in str([each["msg"] for each in error.value.errors()])


def test_a_server_of_the_run_has_its_own_name_and_key():
    with pytest.raises(ValidationError, match="of its own"):
        ServerOptions.model_validate({"serve": {}, "api_key_env": "KEY"})
    assert ServerOptions.model_validate({"serve": {}}).serve == ServeOptions()


def test_only_what_changes_results_is_in_the_key():
    in_it = {name for name in ServerOptions.model_fields if in_key(ServerOptions, name)}
    assert in_it == {"model", "label", "serve", "logprobs", "samples", "thinking_tokens"}
    assert {name for name in ServeOptions.model_fields if in_key(ServeOptions, name)} == {"path", "max_model_len"}


def test_the_loopback_is_on_this_machine():
    assert not options().leaves_the_machine
    assert options(urls=[URL, "https://example.org/v1"]).leaves_the_machine


def test_a_block_has_a_variable_of_its_own():
    assert block_variable("judge-key") == "ALIGNFLOW_BLOCK_KEY_JUDGE_KEY"


def test_a_server_of_the_run_is_in_this_machines_memory():
    assert asks_elsewhere(GeneratorConfig(name="server", options={"urls": [URL], "model": "m"}))
    assert not asks_elsewhere(GeneratorConfig(name="server", options={"serve": {}})) and not asks_elsewhere(None)
