"""Which check a row gets."""

import json

import pytest

from alignflow.data import catalogue
from alignflow.data.configs.verifiers import PerRowRewardOptions, VerifierConfig
from alignflow.data.errors import RecipeError
from alignflow.models.rewards.episodes import Episode
from alignflow.models.rewards.verifiers.base import bind_verifier, checker_of, name_of

INSTRUCTIONS = json.dumps([{"id": "punctuation:no_comma", "kwargs": {}}])
OTHERWISE = PerRowRewardOptions(otherwise=VerifierConfig(name="exact_answer"))


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({}, None),
        ({"verifier": "exact_answer"}, "exact_answer"),
        ({"instructions": INSTRUCTIONS}, "ifeval"),
        ({"instructions": INSTRUCTIONS, "verifier": "numeric_answer"}, "numeric_answer"),
    ],
)
def test_a_row_names_its_check_by_its_column_or_its_instructions(row, name):
    assert name_of(row) == name


@pytest.mark.parametrize(
    ("row", "options", "score", "reason"),
    [
        ({"verifier": "numeric_answer", "reference": "7.0"}, PerRowRewardOptions(), 1.0, ""),
        ({"verifier": "exact_answer", "reference": "7.0"}, PerRowRewardOptions(), 0.0, ""),
        ({"instructions": INSTRUCTIONS}, PerRowRewardOptions(), 1.0, ""),
        ({"reference": "7"}, PerRowRewardOptions(), None, "names no verifier"),
        ({"reference": "7"}, OTHERWISE, 1.0, ""),
        ({"verifier": "length"}, PerRowRewardOptions(), None, "not among those of the recipe"),
        ({"verifier": "lenght"}, PerRowRewardOptions(), None, "does not exist"),
        ({"verifier": "lenght", "reference": "7"}, OTHERWISE.model_copy(update={"verifiers": ()}), 1.0, ""),
    ],
)
def test_each_row_is_checked_by_its_own(row, options, score, reason):
    found = checker_of(options, "x").check(Episode({"id": "q", **row}, "7", True))
    assert found.score == score and reason in found.reason


def test_names_and_options_are_checked_before_anything_runs():
    with pytest.raises(RecipeError, match="numeric_answer"):
        bind_verifier(VerifierConfig(name="numeric_anser"), "x")
    with pytest.raises(RecipeError, match="tolerence"):
        bind_verifier(VerifierConfig(options={"tolerence": 1}), "x")


@pytest.mark.parametrize("name", list(catalogue.VERIFIERS))
def test_every_check_is_made_from_its_options_and_survives_any_row(name):
    options = {"most": 5} if name == "length" else {}
    check = bind_verifier(VerifierConfig(name=name, options=options), "x")
    for row in ({}, {"reference": "["}, {"instructions": "5"}, {"reference": "a" * 5000}):
        found = check.check(Episode({"id": "q", **row}, "\u2028{[(", True))
        assert found.score in (None, 0.0, 1.0)
