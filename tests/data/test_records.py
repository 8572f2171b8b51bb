"""Tables: schemas, ids and splits."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignflow.data.errors import AlignflowError
from alignflow.data.records import (
    SCHEMAS,
    assistant,
    is_held_out,
    normalise_text,
    prompt_digest,
    read_table,
    row_id,
    up_to_question,
    user,
    write_table,
)

TURNS = [*user("q"), *assistant("a"), *user("r")]


def test_a_table_is_read_as_it_was_written_and_may_be_empty(tmp_path):
    rows = [{"id": "1", "source": "s", "prompt": TURNS, "instructions": None}]
    for written in (rows, []):
        write_table(written, "prompts", tmp_path / "a.parquet")
        assert read_table(tmp_path / "a.parquet") == written


def test_a_weight_stands_where_a_turn_has_one_alone(tmp_path):
    turns = [*user("q"), {**assistant("a")[0], "weight": 0}]
    write_table([{"id": "1", "source": "s", "messages": turns}], "demonstrations", tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet")[0]["messages"] == turns


def test_a_damaged_table_is_an_error_of_ours(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(AlignflowError):
        read_table(tmp_path / "a.parquet")


@given(st.text(max_size=20), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_held_out_share_contains_the_smaller(text, one, other):
    low, high = sorted((one, other))
    assert not is_held_out(user(text), low) or is_held_out(user(text), high)
    assert not is_held_out(user(text), 0.0)


def test_case_and_blanks_make_no_other_prompt_and_other_words_do():
    assert prompt_digest(user("One  two")) == prompt_digest(user(" one two\n")) != prompt_digest(user("one three"))
    assert normalise_text(" One\n TWO ") == "one two"


@pytest.mark.parametrize(
    "other",
    [
        unicodedata.normalize("NFD", "Où est le café?"),
        "Où est le ca\u200bfé?",
        "\ufeffOù est le café?",
        "Où est\u00a0le ca\u00adfé?\u200f",
        "\u202aOù est le café?\u202c",
    ],
)
def test_a_prompt_that_looks_the_same_is_the_same(other):
    """Otherwise one stands on the training side and its twin on the held-out side."""
    assert other != "Où est le café?" and prompt_digest(user(other)) == prompt_digest(user("Où est le café?"))


def test_a_prompt_with_characters_that_only_look_alike_is_another():
    assert normalise_text("What is 5²?") != normalise_text("What is 52?") and normalise_text("\ufb01") != "fi"


def test_ids_differ_by_each_part_and_are_the_same_for_the_same():
    assert row_id("a", [1]) == row_id("a", [1]) and len({row_id("a", [1]), row_id("a", [2]), row_id("b", [1])}) == 3
    assert set(SCHEMAS) >= {"demonstrations", "prompts", "preferences", "unpaired", "rankings", "completions", "texts"}


def test_the_conversation_up_to_its_last_question():
    assert up_to_question([*TURNS, *assistant("b")]) == TURNS


def test_a_table_has_a_column_for_reference_answers_only_where_a_row_has_one(tmp_path):
    rows = [{"id": name, "source": "t", "prompt": user("q"), "instructions": None} for name in "ab"]
    write_table(rows, "prompts", tmp_path / "without.parquet")
    write_table([rows[0] | {"reference": "Paris"}, rows[1]], "prompts", tmp_path / "with.parquet")
    assert "reference" not in read_table(tmp_path / "without.parquet")[0]
    assert [row["reference"] for row in read_table(tmp_path / "with.parquet")] == ["Paris", None]
    write_table([rows[0], rows[1] | {"verifier": "length"}], "prompts", tmp_path / "checked.parquet")
    checked = read_table(tmp_path / "checked.parquet")
    assert [row["verifier"] for row in checked] == [None, "length"] and "reference" not in checked[0]
