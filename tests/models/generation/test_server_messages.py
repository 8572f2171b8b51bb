"""Bodies of requests: what is in them for which endpoint, and what tells two requests apart."""

from dataclasses import replace

import pytest

from alignflow.models.generation.chat import ChatRequest
from alignflow.models.generation.server_messages import Dialect, body_of, neutralised, request_id

REQUEST = ChatRequest(({"role": "user", "content": "hello"},), 3, choices=("A", "B"))


@pytest.mark.parametrize(
    "token", ["<|im_end|>", "<|eot_id|>", "</s>", "<start_of_turn>", "[/INST]", "<<SYS>>", "</think>", "<|EOT|>"]
)
def test_no_control_token_is_left(token):
    text = neutralised(f"before{token}after")
    assert token not in text and text.replace(" ", "") == f"before{token}after"


@pytest.mark.parametrize("text", ["", "a < b | c > d", "x <- y", "<b>bold</b>", "list[int]", "A | B"])
def test_other_texts_stay(text):
    assert neutralised(text) == text


def test_each_dialect_is_asked_what_it_understands():
    plain = body_of(REQUEST, "m", Dialect("none"), 0)
    assert "logprobs" not in plain and (plain["max_tokens"], plain["temperature"]) == (3, 0.0)
    listed = body_of(REQUEST, "m", Dialect("listed", limit="max_completion_tokens"), 10)
    assert (listed["top_logprobs"], listed["max_completion_tokens"]) == (20, 13) and "max_tokens" not in listed
    exact = body_of(REQUEST, "m", Dialect("exact"), 0, {"A": 36, "B": 37})
    assert exact["logprob_token_ids"] == [36, 37] and "guided_choice" not in exact


def test_a_seed_is_sent_where_something_is_drawn_and_the_endpoint_takes_one():
    drawn = replace(REQUEST, temperature=1.0, seed=2**62 + 5)
    assert body_of(drawn, "m", Dialect(), 0)["seed"] == 5
    assert "seed" not in body_of(drawn, "m", Dialect(seeds=False), 0) and "seed" not in body_of(
        REQUEST, "m", Dialect(), 0
    )


def test_whatever_changes_a_reply_changes_its_id():
    changes = [
        {"messages": ({"role": "user", "content": "other"},)},
        {"max_new_tokens": 4},
        {"temperature": 0.5},
        {"top_p": 0.9},
        {"top_k": 5},
        {"seed": 1},
        {"choices": ("B", "A")},
        {"continues": True},
        {"template_arguments": {"x": 1}},
    ]
    ids = [request_id(replace(REQUEST, **change), "model", Dialect(), 0) for change in ({}, *changes)]
    ids += [request_id(REQUEST, "another", Dialect(), 0), request_id(REQUEST, "model", Dialect("exact"), 0)]
    ids += [request_id(REQUEST, "model", Dialect(), 7)]
    assert len(set(ids)) == len(ids)
    assert request_id(REQUEST, "model", Dialect(), 0) == ids[0]


def test_every_setting_of_sampling_is_sent():
    """Seen: top_k was checked, put into the row's id, and never sent."""
    body = body_of(replace(REQUEST, temperature=0.7, top_p=0.9, top_k=5), "m", Dialect(continues=True), 0)
    assert (body["temperature"], body["top_p"], body["top_k"]) == (0.7, 0.9, 5)
    assert "top_k" not in body_of(REQUEST, "m", Dialect(), 0)
