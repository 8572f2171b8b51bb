"""Answers survive a kill, belong to the right side whatever was shown left, and several people share the work."""

import os
import signal
import subprocess
import sys

import pytest

from alignflow.data.annotation.answers import (
    Session,
    annotators,
    check_annotator,
    export_rows,
    path_of,
    read_answers,
    standing,
)
from alignflow.data.annotation.pairs import take_pairs, write_pairs_once
from alignflow.data.errors import DataError, UserError
from alignflow.data.records import user
from alignflow.data.sources.votes import parse

PAIRS = take_pairs([{"prompt": user(f"q{i}"), "completions": ["good", "bad"]} for i in range(40)], None).pairs
KILLED = """
import os, signal, sys
from pathlib import Path
from alignflow.data.annotation.answers import Session
from alignflow.data.annotation.pairs import read_pairs
session = Session(Path(sys.argv[1]), read_pairs(Path(sys.argv[1])), "anna")
for _ in range(3):
    session.answer(session.state()["pair"]["item"], "first", 1.0)
os.kill(os.getpid(), signal.SIGKILL)
"""


def session_of(path, name="anna", pairs=PAIRS, overlap=1.0):
    return Session(path, pairs, name, overlap)


def label_all(session, good="good"):
    while (shown := session.state()["pair"]) is not None:
        session.answer(shown["item"], "first" if shown["answers"][0] == good else "second", 1.0)
    session.close()


def test_what_was_answered_before_a_kill_is_there(tmp_path):
    write_pairs_once(tmp_path, PAIRS)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)])
    assert killed.returncode == -signal.SIGKILL
    session = session_of(tmp_path)
    assert session.state()["done"] == 3
    label_all(session)
    assert len(standing(read_answers(tmp_path, "anna"))) == 40


def test_a_line_that_a_kill_cut_off_is_taken_away_and_the_next_one_is_whole(tmp_path):
    session = session_of(tmp_path)
    session.answer(session.state()["pair"]["item"], "tie", 1.0)
    session.close()
    with path_of(tmp_path, "anna").open("ab") as file:
        file.write(b'{"item": "x", "prefer')
    assert len(read_answers(tmp_path, "anna")) == 1
    session = session_of(tmp_path)
    session.answer(session.state()["pair"]["item"], "tie", 1.0)
    session.close()
    assert [answer.preference for answer in read_answers(tmp_path, "anna")] == ["tie", "tie"]


def test_a_damaged_line_in_the_middle_is_an_error(tmp_path):
    path_of(tmp_path, "anna").write_bytes(b"what\n")
    with pytest.raises(DataError, match="line 1 is no answer"):
        read_answers(tmp_path, "anna")


def test_sides_are_shuffled_and_the_answers_are_not(tmp_path):
    write_pairs_once(tmp_path, PAIRS)
    label_all(session_of(tmp_path))
    assert {answer.left for answer in read_answers(tmp_path, "anna")} == {"a", "b"}
    rows = export_rows(tmp_path, PAIRS)
    assert len(rows) == 40
    for row in rows:
        (pair,) = parse(row, "preferences")
        assert pair["chosen"][0]["content"] == "good" and pair["judge"] == "human:anna"
        assert set(row["votes"][0]) == {"annotator", "preference", "seconds", "created_at", "note"}


def test_each_annotator_has_an_order_and_sides_of_their_own(tmp_path):
    sessions = [session_of(tmp_path, name) for name in ("anna", "ben")]
    assert sessions[0]._order != sessions[1]._order
    assert [sessions[0].left(pair.id) for pair in PAIRS] != [sessions[1].left(pair.id) for pair in PAIRS]
    assert sessions[0]._order == Session(tmp_path / "other", PAIRS[::-1], "anna")._order


def test_undo_takes_the_last_answer_back_also_of_an_earlier_session(tmp_path):
    session = session_of(tmp_path, pairs=PAIRS[:2])
    assert not session.undo()
    for _ in range(2):
        session.answer(session.state()["pair"]["item"], "first", 2.0, "a note")
    last = session._order[1]
    session.close()
    session = session_of(tmp_path, pairs=PAIRS[:2])
    assert session.state()["pair"] is None and session.undo()
    assert session.state()["pair"]["item"] == last and session.state()["done"] == 1
    session.answer(last, "skip", 1.0)
    session.close()
    assert [answer.preference for answer in standing(read_answers(tmp_path, "anna")).values()][-1] == "skip"
    assert len(export_rows(tmp_path, PAIRS[:2])) == 1, "a skipped pair has no label"


def test_an_answer_that_does_not_fit_is_refused(tmp_path):
    session = session_of(tmp_path)
    item = session.state()["pair"]["item"]
    for name, choice in ((item, "best"), ("unknown", "first"), (item, "undo")):
        with pytest.raises(ValueError, match="no such pair is open"):
            session.answer(name, choice, 1.0)
    session.answer(item, "first", 1.0)
    with pytest.raises(ValueError, match="no such pair is open"):
        session.answer(item, "second", 1.0)


def test_pairs_that_not_everybody_labels_are_labelled_once(tmp_path):
    write_pairs_once(tmp_path, PAIRS)
    half = session_of(tmp_path, overlap=0.25)
    for _ in range(20):
        half.answer(half.state()["pair"]["item"], "tie", 1.0)
    half.close()
    label_all(session_of(tmp_path, "ben", overlap=0.25))
    label_all(session_of(tmp_path, "anna", overlap=0.25))
    votes = [len(row["votes"]) for row in export_rows(tmp_path, PAIRS)]
    assert len(votes) == 40 and set(votes) == {1, 2}
    assert 3 <= votes.count(2) <= 20 and annotators(tmp_path) == ["anna", "ben"]


def test_one_person_has_one_session_at_a_time(tmp_path):
    session = session_of(tmp_path)
    with pytest.raises(UserError, match="has a session open"):
        session_of(tmp_path)
    session.close()
    session_of(tmp_path).close()


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a" * 41, "a b"])
def test_a_name_of_an_annotator_is_no_path(name):
    with pytest.raises(UserError, match="a name has up to 40"):
        check_annotator(name)
    assert check_annotator("anna-7") == "anna-7" and os.sep not in "anna-7"
