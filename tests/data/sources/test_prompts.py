"""Rows of prompts with verifiable instructions, as IFEval writes them."""

import json

import pytest

from alignflow.data.records import user
from alignflow.data.sources.base import RowError
from alignflow.data.sources.prompts import prompt_row

NAMES = ["punctuation:no_comma", "length:words"]


def checks(row):
    return json.loads(prompt_row(user("q"), row)["instructions"])


def test_names_and_arguments_become_one_column():
    wanted = [{"id": NAMES[0], "kwargs": {}}, {"id": NAMES[1], "kwargs": {"least": 3}}]
    arguments = [{"least": None}, {"least": 3}]
    assert checks({"instruction_id_list": NAMES, "kwargs": arguments}) == wanted
    assert checks({"instruction_id_list": json.dumps(NAMES), "kwargs": json.dumps(arguments)}) == wanted, (
        "a table of text"
    )


def test_names_without_arguments_have_none():
    assert checks({"instruction_id_list": NAMES[:1]}) == [{"id": NAMES[0], "kwargs": {}}]


def test_a_row_without_them_has_none_and_one_that_was_read_before_keeps_its_own():
    assert prompt_row(user("q"), {}) == {"prompt": user("q"), "instructions": None}
    assert prompt_row(user("q"), {"instructions": "[]"})["instructions"] == "[]"
    assert prompt_row(user("q"), {"instructions": ""})["instructions"] is None


@pytest.mark.parametrize(
    "row",
    [
        {"instruction_id_list": NAMES, "kwargs": [{}]},
        {"instruction_id_list": NAMES[:1], "kwargs": [3]},
        {"instruction_id_list": "[broken"},
    ],
)
def test_what_does_not_fit_together_drops_the_row(row):
    with pytest.raises(RowError, match="bad_instructions"):
        prompt_row(user("q"), row)


def test_a_reference_answer_is_kept_where_there_is_one():
    assert prompt_row(user("q"), {"reference": "Paris"})["reference"] == "Paris"
    assert "reference" not in prompt_row(user("q"), {"reference": " "})
