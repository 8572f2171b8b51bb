"""Who labelled a pair, with what weight and how sure, from the columns of any format."""

import pytest

from alignflow.data import catalogue
from alignflow.data.sources.base import RowError
from alignflow.data.sources.labelling import labelling, weight_of, with_labelling

TOLD = {
    "judge": "llm",
    "principle": "honest",
    "rationale": "it is true",
    "weight": 0.5,
    "confidence": 0.75,
    "p_given": 0.75,
    "p_swapped": 1.0,
}
PAIRS = {
    "trl": {"prompt": "q", "chosen": "a", "rejected": "b"},
    "alpaca": {"instruction": "q", "chosen": "a", "rejected": "b"},
    "comparison": {"prompt": "q", "responses": ["a", "b"], "scores": [2, 1]},
}


@pytest.mark.parametrize("name", list(PAIRS))
def test_every_format_of_pairs_keeps_them(name):
    (row,) = catalogue.FORMATS[name].resolve()({**PAIRS[name], **TOLD}, "preferences")
    assert {column: row[column] for column in TOLD} == TOLD
    (plain,) = catalogue.FORMATS[name].resolve()(PAIRS[name], "preferences")
    assert not set(TOLD) & set(plain)


def test_an_annotator_makes_the_labeller_a_person_unless_a_judge_is_named():
    assert (
        labelling({"annotator": "anna"}) == {"judge": "human:anna"}
        and labelling({"annotator_id": 7})["judge"] == "human:7"
    )
    assert labelling({"annotator": "anna", "judge": "llm"}) == {"judge": "llm"}


def test_what_is_missing_is_missing_and_no_number():
    assert labelling({"weight": None, "confidence": float("nan"), "judge": ""}) == {}
    assert labelling({"confidence": 0.0}) == {"confidence": 0.0}
    assert with_labelling({"weight": None}, {"weight": 2.0}) == {}, "a parser that found no weight has looked"


@pytest.mark.parametrize(
    ("value", "reason"),
    [("much", "unknown_weight"), (-0.5, "unknown_weight"), (False, "nothing_to_train"), ("0", "nothing_to_train")],
)
def test_a_weight_is_a_number_above_zero(value, reason):
    with pytest.raises(RowError, match=reason):
        weight_of(value)
    assert weight_of(True) is None and weight_of(1) is None and weight_of("2.5") == 2.5


def test_a_table_of_demonstrations_still_knows_weights_of_0_and_1_alone():
    row = {"prompt": "q", "completion": "a", "weight": 0.5}
    with pytest.raises(RowError, match="unknown_weight"):
        catalogue.FORMATS["trl"].resolve()(row, "demonstrations")
