"""Turns of a conversation: the oldest go where the context is full, and a file that is there already stays."""

import json

import pytest

from alignflow.cli.conversation import Conversation, save
from alignflow.data.errors import UserError


def words(turns):
    return sum(len(turn["content"].split()) for turn in turns)


@pytest.fixture
def talk():
    talk = Conversation("be kind")
    for number in range(3):
        talk.ask(f"question {number}")
        talk.answered(f"answer {number}")
    talk.ask("and now")
    return talk


def test_the_oldest_questions_go_with_their_answers_and_the_system_turn_stays(talk):
    assert talk.make_room(words, 100) == 0
    assert talk.make_room(words, 9) == 4
    assert [turn["content"] for turn in talk.messages] == ["be kind", "question 2", "answer 2", "and now"]


def test_a_question_that_is_too_long_alone_is_refused(talk):
    with pytest.raises(UserError, match="this is 4 tokens, but the context has room for only 3"):
        talk.make_room(words, 3)
    talk.take_back()
    assert talk.turns == []


def test_without_a_system_text_there_is_no_such_turn():
    assert Conversation().messages == []


def test_what_was_said_is_saved_as_rows_that_a_data_set_may_have(talk, tmp_path):
    file = tmp_path / "talk.jsonl"
    save(file, [("a", talk), ("a", Conversation())], again=False)
    first, second = map(json.loads, file.read_text().splitlines())
    assert first["messages"] == talk.messages and second == {"model": "a", "messages": []}


def test_only_a_file_of_this_chat_is_written_again(talk, tmp_path):
    file = tmp_path / "mine"
    file.write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        save(file, [("a", talk)], again=False)
    assert file.read_text() == "mine"
    save(file, [("a", talk)], again=True)
    with pytest.raises(UserError, match="cannot be written"):
        save(tmp_path / "no" / "where", [("a", talk)], again=False)
