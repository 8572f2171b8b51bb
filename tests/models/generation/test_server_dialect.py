"""What an endpoint understands is found out by asking, never by its name."""

import json
import math

import pytest

from alignflow.data.configs.server import ServerOptions
from alignflow.data.errors import ModelError
from alignflow.models.generation.server_client import RefusedError
from alignflow.models.generation.server_dialect import choice_tokens, find_dialect
from alignflow.models.generation.server_messages import Dialect

OPTIONS = ServerOptions.model_validate({"urls": ["http://127.0.0.1:1/v1"], "model": "m"})


class Endpoint:
    """One that refuses some fields, ignores others, and may be vLLM."""

    def __init__(self, refuses=(), logprobs=True, vllm=False, tokens=None):
        self.refuses, self.logprobs, self.vllm, self.bodies = refuses, logprobs, vllm, []
        self.tokens = tokens or {"A": 36, "B": 37}

    def __call__(self, body):
        self.bodies.append(body)
        for field in self.refuses:
            if field in body:
                raise RefusedError(f"status 400: {field} is not supported, use max_completion_tokens")
        choices = body.get("structured_outputs", {}).get("choice") if self.vllm else None
        text = choices[0] if choices else "A"
        choice = {"message": {"content": text}}
        if body.get("logprobs") and self.logprobs:
            listed = list(self.tokens.items()) if choices else [("A", 1), ("B", 2), ("The", 3)]
            by_number = self.vllm and body.get("return_tokens_as_token_ids")
            names = [f"token_id:{number}" if by_number else token for token, number in listed]
            top = [{"token": name, "logprob": math.log(0.9 / len(names))} for name in names]
            choice["logprobs"] = {"content": [{"token": names[0], "logprob": -1.0, "top_logprobs": top}]}
        return json.dumps({"choices": [choice]}).encode()


def test_vllm_is_known_by_an_answer_that_no_model_gives():
    assert find_dialect(Endpoint(vllm=True), "m", OPTIONS) == Dialect("exact", continues=True)


def test_one_that_ignores_structured_outputs_is_not_taken_for_vllm():
    assert find_dialect(Endpoint(), "m", OPTIONS) == Dialect("listed")


@pytest.mark.parametrize("endpoint", [Endpoint(logprobs=False), Endpoint(refuses=("logprobs",))])
def test_one_without_log_probabilities(endpoint):
    assert find_dialect(endpoint, "m", OPTIONS).logps == "none"


def test_fields_that_are_refused_are_left_out_or_renamed():
    found = find_dialect(Endpoint(refuses=("seed", "max_tokens", "structured_outputs")), "m", OPTIONS)
    assert found == Dialect("listed", seeds=False, limit="max_completion_tokens")


def test_never_asks_for_no_log_probabilities():
    endpoint = Endpoint(vllm=True)
    found = find_dialect(endpoint, "m", OPTIONS.model_copy(update={"logprobs": "never"}))
    assert (found.logps, found.continues) == ("none", True) and not any("logprobs" in body for body in endpoint.bodies)


def test_guided_choice_is_never_sent():
    endpoint = Endpoint(vllm=True)
    find_dialect(endpoint, "m", OPTIONS)
    assert not any("guided_choice" in body for body in endpoint.bodies)


def test_a_model_that_thinks_first_is_read_by_texts_which_show_where_it_ends():
    found = find_dialect(Endpoint(vllm=True), "m", OPTIONS.model_copy(update={"thinking_tokens": 50}))
    assert (found.logps, found.continues) == ("listed", True)


def test_one_that_refuses_everything_is_an_error():
    with pytest.raises(ModelError, match="does not understand"):
        find_dialect(Endpoint(refuses=("messages",)), "m", OPTIONS)


def test_the_tokens_of_options_are_found_and_those_of_several_tokens_refused():
    dialect = Dialect("exact", continues=True)
    assert choice_tokens(Endpoint(vllm=True), "m", dialect, ("A", "B")) == {"A": 36, "B": 37}
    with pytest.raises(ModelError, match="not one token each"):
        choice_tokens(Endpoint(vllm=True, tokens={"App": 5, "Pe": 6}), "m", dialect, ("Apple", "Pear"))
