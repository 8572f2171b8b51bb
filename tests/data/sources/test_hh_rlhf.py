"""hh-rlhf: whole transcripts in `chosen` and `rejected`."""

import pytest

from alignflow.data.records import assistant, user
from alignflow.data.sources.base import RowError
from alignflow.data.sources.hh_rlhf import parse

TWO = "\n\nHuman: q\n\nAssistant: a\n\nHuman: more\n\nAssistant: "


def test_the_last_answers_differ_and_what_stands_before_is_the_prompt():
    (row,) = parse({"chosen": TWO + "yes", "rejected": TWO + "no"}, "preferences")
    assert row["prompt"] == [*user("q"), *assistant("a"), *user("more")]
    assert (row["chosen"], row["rejected"]) == (assistant("yes"), assistant("no"))


def test_a_prompt_is_the_chosen_transcript_without_its_answer():
    assert parse({"chosen": TWO + "yes"}, "prompts")[0]["prompt"] == [*user("q"), *assistant("a"), *user("more")]


def test_a_transcript_that_is_no_text_is_refused():
    with pytest.raises(RowError, match="not_text"):
        parse({"chosen": ["q", "a"], "rejected": "x"}, "preferences")


def test_transcripts_with_line_ends_of_windows_are_read():
    two = TWO.replace("\n", "\r\n")
    (row,) = parse({"chosen": two + "yes", "rejected": two + "no"}, "preferences")
    assert row["prompt"] == [*user("q"), *assistant("a"), *user("more")] and row["rejected"] == assistant("no")
