"""Labels by name, from annotations, votes and pairs of a judge, in one orientation."""

import json

import pytest

from alignflow.data.agreement import agreement
from alignflow.data.annotation.answers import Session
from alignflow.data.annotation.labels import labels_of_annotation, labels_of_file, labels_of_rows
from alignflow.data.annotation.pairs import take_pairs
from alignflow.data.errors import DataError
from alignflow.data.records import user

PAIRS = take_pairs([{"prompt": user(f"q{i}"), "completions": ["good", "bad"]} for i in range(6)], None).pairs


def test_annotators_and_a_judge_are_compared_whatever_order_the_answers_have(tmp_path):
    session = Session(tmp_path, PAIRS, "anna")
    while (shown := session.state()["pair"]) is not None:
        session.answer(shown["item"], "first" if shown["answers"][0] == "good" else "second", 1.0)
    session.close()
    judged = [
        {"prompt": f"q{i}", "chosen": "good" if i else "bad", "rejected": "bad" if i else "good", "judge": "llm"}
        for i in range(6)
    ]
    labels = labels_of_annotation(tmp_path, PAIRS) | labels_of_rows(judged, "file")[0]
    assert list(labels) == ["anna", "llm"]
    (two,) = agreement(labels)["pairs"]
    assert (two["items"], two["agree"]) == (6, 5)


def test_votes_without_a_name_are_those_of_their_places():
    rows = [{"prompt": "q", "response_a": "x", "response_b": "y", "votes": ["a", "tie", "b"]}]
    found, _ = labels_of_rows(rows, "file")
    assert {name: list(own.values()) for name, own in found.items()} == {"1": ["first"], "2": ["tie"], "3": ["second"]}


def test_rows_without_a_label_are_counted(tmp_path):
    rows = [{"prompt": "q", "response_a": "x", "response_b": "y", "preference": word} for word in ("a", "what")]
    file = tmp_path / "labels.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found, left_out = labels_of_file(str(file))
    assert list(found) == ["labels.jsonl"] and left_out == {"unknown_verdict": 1}
    file.write_text(json.dumps(rows[1]) + "\n")
    with pytest.raises(DataError, match="no label of two answers"):
        labels_of_file(str(file))
