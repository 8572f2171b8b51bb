"""Prompts for evaluation, as the measuring processes read them."""

import json

from alignflow.data.measuring import write_evaluation
from alignflow.data.records import assistant, prompt_digest, user


def test_the_last_question_counts_and_its_runs_of_words(tmp_path):
    rows = [
        {"prompt": [*user("earlier words here"), *assistant("a"), *user("One two three")]},
        {"prompt": user("two three")},
    ]
    assert write_evaluation(rows, 2, tmp_path / "e.json") >= 2
    found = json.loads((tmp_path / "e.json").read_text())
    assert {"one two", "two three"} <= set(found["grams"]) and not any("earlier" in gram for gram in found["grams"])
    assert found["digests"] == sorted({prompt_digest(rows[0]["prompt"]), prompt_digest(user("two three"))})


def test_with_size_0_there_are_digests_alone(tmp_path):
    assert write_evaluation([{"prompt": user("one two")}], 0, tmp_path / "e.json") == 0
    assert len(json.loads((tmp_path / "e.json").read_text())["digests"]) == 1
