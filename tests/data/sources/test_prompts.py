"""Rows of prompts with verifiable instructions, as IFEval writes them."""

import json

import pytest

from alignflow.data.catalogue import FORMATS
from alignflow.data.records import user
from alignflow.data.sources.base import RowError
from alignflow.data.sources.columns import renamed
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


@pytest.mark.parametrize(
    ("reference", "kept"),
    [
        (72, "72"),
        (0, "0"),
        (1.5, "1.5"),
        (["a", "b"], '["a", "b"]'),
        ({"type": "object"}, '{"type": "object"}'),
        (float("nan"), None),
    ],
)
def test_a_reference_that_is_no_text_is_kept_as_json(reference, kept):
    assert prompt_row(user("q"), {"reference": reference}).get("reference") == kept


@pytest.mark.parametrize("reference", [float("inf"), {1, 2}, "nul\0"])
def test_a_reference_that_nothing_could_read_drops_the_row(reference):
    with pytest.raises(RowError, match="bad_reference"):
        prompt_row(user("q"), {"reference": reference})


def test_the_check_that_a_row_names_is_kept():
    assert prompt_row(user("q"), {"verifier": " exact_answer "})["verifier"] == "exact_answer"
    assert "verifier" not in prompt_row(user("q"), {"verifier": ""})
    with pytest.raises(RowError, match="bad_verifier"):
        prompt_row(user("q"), {"verifier": 3})


@pytest.mark.parametrize(
    ("form", "row", "columns"),
    [
        ("trl", {"question": "1 + 1?", "answer": "#### 2"}, {"prompt": "question", "reference": "answer"}),
        ("alpaca", {"instruction": "1 + 1?", "output": "2"}, {"reference": "output"}),
        ("messages", {"messages": user("1 + 1?"), "gold": {"answer": 2}}, {"reference": "gold.answer"}),
    ],
)
def test_raw_formats_give_a_reference_from_whichever_column_holds_it(form, row, columns):
    (made,) = FORMATS[form].resolve()(renamed(row, columns), "prompts")
    assert made["prompt"] == user("1 + 1?") and made["reference"] in ("#### 2", "2")
