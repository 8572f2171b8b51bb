"""A prepared text that is more than text drops its row with a reason: an image's place, turns as JSON, the end of a turn."""

import json

import pytest

from alignflow.data.records import assistant, user
from alignflow.data.sources.base import RowError
from alignflow.data.sources.soundness import check_row
from alignflow.data.sources.traces import refuse_traces

TURNS = [*user("q"), *assistant("a")]


@pytest.mark.parametrize(
    ("role", "text", "reason"),
    [
        ("user", "<image>\nWho is it?", "images"),
        ("user", "Who is it?\n<image>\n", "images"),
        ("user", " <video>When?", "images"),
        ("user", "<audio>Say it again.", "audio"),
        ("user", "See <|vision_start|><|image_pad|><|vision_end|> here.", "images"),
        ("user", "What is it? <|image|>", "images"),
        ("user", "Picture 1: <img>a.jpg</img>\nWho?", "images"),
        ("user", "<AUDIO>\nWhat is said?", "audio"),
        ("assistant", json.dumps(TURNS), "turns_as_text"),
        ("user", json.dumps(TURNS[0], indent=1), "turns_as_text"),
        ("assistant", str(TURNS), "turns_as_text"),
        ("assistant", '[{"from": "gpt", "value": "a"}]', "turns_as_text"),
        ("assistant", "So it is.</s>", "rendered_template"),
        ("assistant", "So it is.<|im_end|>\n", "rendered_template"),
        ("assistant", "So.<|endoftext|>", "rendered_template"),
        ("assistant", "So.<|end_of_text|>", "rendered_template"),
        ("assistant", "So.<\uff5cend\u2581of\u2581sentence\uff5c>", "rendered_template"),
        ("assistant", "<s>So it is.", "rendered_template"),
        ("assistant", "So.<|im_end|>\n<|im_start|>user\nMore", "rendered_template"),
    ],
)
def test_a_trace_has_a_reason(role, text, reason):
    with pytest.raises(RowError) as raised:
        refuse_traces(role, text)
    assert raised.value.reason == reason


@pytest.mark.parametrize(
    ("role", "text"),
    [
        ("user", "What does the tag <image> do in SVG?"),
        ("assistant", "<image>x</image> is how it is written."),
        ("assistant", "Write <s>old</s>"),
        ("user", "What does </s> mean?"),
        ("assistant", "The token <|im_end|> ends a turn."),
        ("assistant", "<s>old</s> is struck through."),
        ("assistant", "A turn begins with <|im_start|>user."),
        ("assistant", '{"role": "admin", "content": "none"}'),
        ("assistant", '{"role": "user", "content": "hi"} is one turn of it.'),
        ("assistant", '[{"name": "user"}]'),
    ],
)
def test_what_only_speaks_of_such_things_is_text(role, text):
    refuse_traces(role, text)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": user("<image>q")},
        {"messages": [*user("q"), *assistant("a</s>")]},
        {"prompt": user("q"), "chosen": assistant("a"), "rejected": assistant("b</s>")},
        {"prompt": user("q"), "completion": assistant(str(TURNS)), "label": True},
        {"prompt": user("q"), "completions": ["a", "b<|eot_id|>"]},
    ],
)
def test_all_texts_of_a_row_are_checked(row):
    with pytest.raises(RowError):
        check_row(row)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<think>\nso far", "unfinished_answer"),
        ("<think>only this</think>\n", "empty"),
        ("<think>so</think>\nIt is.", ""),
        ("Write <think> first.", ""),
    ],
)
def test_an_answer_that_ends_in_its_thinking_is_not_learnt(text, reason):
    row = {"messages": [*user("q"), *assistant(text)]}
    if reason:
        with pytest.raises(RowError, match=reason):
            check_row(row)
    else:
        check_row(row)
    check_row({"prompt": user("q"), "chosen": assistant("a"), "rejected": assistant(text)})
    check_row({"messages": [*user("q"), {**assistant(text)[0], "weight": 0}, *user("r"), *assistant("a")]})
