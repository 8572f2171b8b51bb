"""Replies of endpoints are untrusted: whatever the bytes are, there is a reply or a reason, and no verdict is made up."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignflow.models.generation.chat import ChatRequest
from alignflow.models.generation.server_replies import UnusableError, read_reply, verdict_of, without_thinking

REQUEST = ChatRequest(({"role": "user", "content": "?"},), 1, choices=("A", "B"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "message",
                    "content",
                    "logprobs",
                    "top_logprobs",
                    "token",
                    "logprob",
                    "usage",
                    "prompt_tokens",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


def reply_of(listed, text="A"):
    place = {
        "token": "A",
        "logprob": -0.1,
        "top_logprobs": [{"token": token, "logprob": logp} for token, logp in listed],
    }
    choice = {"message": {"content": text}, "finish_reason": "stop", "logprobs": {"content": [place]}}
    return json.dumps({"choices": [choice]}).encode()


@given(JSON | st.fixed_dictionaries({"choices": st.lists(JSON, min_size=1, max_size=2)}))
def test_any_json_is_a_reply_or_unusable(content):
    try:
        reply = read_reply(json.dumps(content).encode(), REQUEST, None, True).reply
    except UnusableError:
        return
    assert isinstance(reply.text, str) and all(logp <= 0 for logp in (reply.logps or {}).values())


@given(st.binary(max_size=60))
def test_any_bytes_are_a_reply_or_unusable(content):
    with pytest.raises(UnusableError):
        read_reply(content, REQUEST, None, True)


@given(st.floats(0.01, 0.9), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_the_probability_of_an_option_is_that_of_its_spellings_together(mass, share, split):
    weights = [("A", mass * share * split), (" A", mass * share * (1 - split)), ("B", mass * (1 - share)), ("x", 1e-6)]
    listed = [(token, math.log(weight)) for token, weight in weights if weight > 1e-5 or token == "x"]
    logps = read_reply(reply_of(listed), REQUEST, None, True).reply.logps
    for choice in logps:
        expected = sum(math.exp(logp) for token, logp in listed if token.strip() == choice)
        assert math.exp(logps[choice]) == pytest.approx(expected)


def test_tokens_asked_for_by_number_are_found_by_number():
    listed = [("token_id:7", -0.2), ("token_id:36", -3.0), ("token_id:37", -4.0)]
    logps = read_reply(reply_of(listed), REQUEST, {"A": 36, "B": 37}, True).reply.logps
    assert logps == {"A": -3.0, "B": -4.0}


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("A", "A"),
        (" B.\n", "B"),
        ("**A**", "A"),
        ("[[B]]", "B"),
        ("A or B", None),
        ("Answer: A", None),
        ("", None),
        ("a", None),
    ],
)
def test_a_text_is_an_option_or_none(text, verdict):
    assert verdict_of(text, ("A", "B")) == verdict


@pytest.mark.parametrize(
    ("text", "left", "thinks"),
    [
        ("A", "A", False),
        ("<think>B</think>\nA", "A", False),
        ("B</think>A", "A", False),
        (" <think>B", "", True),
        ("<think>a</think>b</think>c", "c", False),
    ],
)
def test_thinking_is_taken_away(text, left, thinks):
    assert without_thinking(text) == (left, thinks)


def test_negative_or_odd_counts_of_tokens_are_unknown():
    content = {"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": -1, "completion_tokens": True}}
    found = read_reply(json.dumps(content).encode(), ChatRequest((), 1), None, False)
    assert (found.prompt_tokens, found.completion_tokens) == (None, None)
