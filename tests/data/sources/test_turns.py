"""Turns as they stand in a row, each checked by itself."""

import pytest

from alignflow.data.records import assistant, user
from alignflow.data.sources.base import RowError
from alignflow.data.sources.turns import turn_list


def turn(content, role="user", **more):
    return {"role": role, "content": content, **more}


def test_roles_and_contents_have_several_names():
    assert turn_list([{"from": "human", "value": "q"}, {"role": "assistant", "content": "a"}]) == [
        *user("q"),
        *assistant("a"),
    ]


def test_the_texts_of_parts_are_joined():
    parts = [{"type": "text", "text": "one "}, {"type": "input_text", "text": "two"}]
    assert turn_list([turn(parts)]) == user("one two")


def test_an_empty_system_turn_is_none():
    assert turn_list([turn(" ", "system"), turn("q")]) == user("q")


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ([turn([{"type": "image_url", "image_url": "x"}])], "images"),
        ([turn([{"type": "input_audio", "input_audio": "x"}])], "audio"),
        ([turn([{"type": "video_of_a_new_kind"}])], "unknown_content"),
        ([turn([{"type": "text", "text": "x", "lang": "en"}])], "unknown_content"),
        ([turn("x", "wizard")], "unknown_role"),
        ([turn("")], "empty"),
        ([turn(3)], "not_text"),
        ([], "empty"),
    ],
)
def test_what_is_no_text_of_a_known_speaker_has_a_reason(turns, reason):
    with pytest.raises(RowError) as error:
        turn_list(turns)
    assert error.value.reason == reason
