"""IFEval's instructions as a check."""

import json
from collections import Counter

import pytest

from alignflow.data.configs.verifiers import IFEvalOptions
from alignflow.data.records import user
from alignflow.data.sources.prompts import prompt_row
from alignflow.models.rewards.episodes import Episode
from alignflow.models.rewards.verifiers.ifeval import IFEval

SMALL, NO_COMMA = {"id": "change_case:english_lowercase", "kwargs": {}}, {"id": "punctuation:no_comma", "kwargs": {}}


def outcome(text, *instructions, **options):
    row = {"id": "q", "instructions": json.dumps(instructions) if instructions else None}
    return IFEval(IFEvalOptions(**options)).check(Episode(row, text, True))


@pytest.mark.parametrize(
    ("text", "options", "score"),
    [
        ("small", {}, 1.0),
        ("small, too", {}, 0.0),
        ("small, too", {"score": "instruction"}, 0.5),
        ("Sure, here:\nsmall", {}, 0.0),
        ("Sure, here:\nsmall", {"reading": "loose"}, 1.0),
        ("", {"reading": "loose"}, 0.0),
    ],
)
def test_all_instructions_or_a_share_of_them(text, options, score):
    assert outcome(text, SMALL, NO_COMMA, **options).score == score


@pytest.mark.parametrize(
    ("instructions", "reason"),
    [
        ((), "no instructions"),
        ((SMALL, {"id": "language:response_language", "kwargs": {"language": "de"}}), "language:response_language"),
        (({"id": "keywords:existence", "kwargs": {}},), "arguments of 'keywords:existence'"),
    ],
)
def test_what_cannot_be_checked_has_no_score(instructions, reason):
    found = outcome("small", *instructions)
    assert found.score is None and reason in found.reason


def test_of_the_real_rows_all_but_those_about_a_language_can_be_checked(repository):
    file = repository.parent / "shared" / "data" / "prompts" / "ifeval.parquet"
    if not file.is_file():
        pytest.skip("needs ../shared")
    import pyarrow.parquet as pq

    reasons = Counter()
    for row in pq.read_table(file).to_pylist():
        made = {"id": "q", **prompt_row(user(row["prompt"]), row)}
        for reading in ("strict", "loose"):
            reasons[IFEval(IFEvalOptions(reading=reading)).check(Episode(made, "A text, here.", True)).reason] += 1
    assert reasons == {"": 2 * 329, "no check for the instruction 'language:response_language'": 2 * 21}


@pytest.mark.parametrize(
    "instruction",
    [
        {"id": []},
        {"id": {}},
        {"id": "length_constraints:number_words", "kwargs": {"num_words": float("inf")}},
        {"id": "keywords:letter_frequency", "kwargs": [1]},
        {"id": "change_case:capital_word_frequency", "kwargs": "x"},
    ],
)
def test_instructions_of_the_wrong_shape_have_no_score_and_raise_nothing(instruction):
    assert outcome("text", instruction).score is None
