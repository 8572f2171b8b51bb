"""Notations of transcripts, taken apart into turns."""

import pytest

from alignflow.data.records import assistant, user
from alignflow.data.sources.base import RowError
from alignflow.data.sources.transcripts import is_transcript, marked_role, transcript_turns, without_end

TURNS = [*user("q"), *assistant("a")]
NOTATIONS = {
    "hh": "\n\nHuman: q\n\nAssistant: a",
    "guanaco": "### Human: q### Assistant: a",
    "chatml": "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n",
}


@pytest.mark.parametrize("text", NOTATIONS.values(), ids=list(NOTATIONS))
def test_each_notation_gives_the_same_turns(text):
    assert is_transcript(text) and transcript_turns(text) == TURNS


def test_a_mark_at_the_end_is_where_the_answer_begins_and_turns_of_one_speaker_join():
    assert transcript_turns("\n\nHuman: q\n\nHuman: r\n\nAssistant:") == user("q\n\nr")


def test_a_text_about_humans_is_no_transcript():
    assert not is_transcript("Human beings are curious. Assistant: a helper.")
    with pytest.raises(RowError, match="no_transcript"):
        transcript_turns("One. Two.")


def test_an_empty_turn_and_a_speaker_that_is_not_known_have_a_reason():
    with pytest.raises(RowError, match="empty"):
        transcript_turns("\n\nHuman: \n\nAssistant: a")
    with pytest.raises(RowError, match="tool_calls"):
        transcript_turns("<|im_start|>user\nq<|im_end|>\n<|im_start|>tool\nx<|im_end|>\n")


def test_a_control_token_inside_of_a_turn_is_refused():
    with pytest.raises(RowError, match="rendered_template"):
        transcript_turns("<|im_start|>user\nq<|endoftext|>r<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n")


def test_an_answer_beside_a_transcript_loses_what_the_notation_writes():
    assert without_end(" a", "\n\nHuman: q\n\nAssistant:") == "a"
    assert without_end(" a", "a question") == " a", "the prompt is no transcript"
    assert marked_role("<|x|>User<|y|>") == "user"


@pytest.mark.parametrize(
    "text",
    [
        "\r\n\r\nHuman: q\r\n\r\nAssistant:",
        "human: q\nassistant:",
        "USER: q ASSISTANT:",
        "\n\nhuman: q\n\nassistant: ",
    ],
)
def test_marks_in_small_letters_and_lines_of_windows_are_marks(text):
    assert is_transcript(text) and transcript_turns(text) == user("q")


def test_a_system_turn_may_stand_before_users_in_capital_letters():
    assert transcript_turns("SYSTEM: s\nUSER: q\nASSISTANT:") == [{"role": "system", "content": "s"}, *user("q")]
