"""Recorded replies of judges, and the statistics that were published beside them."""

import json
import os
from pathlib import Path

import pytest

from alignflow.data.agreement import cohen_kappa
from alignflow.data.configs.inputs import SourceConfig
from alignflow.data.errors import DataError
from alignflow.data.judging.recorded import NO_REPLY, NOT_UNDERSTOOD, REPEATED, recorded_replies, verdict_in
from alignflow.data.judging.report import judge_report
from alignflow.data.sources.reading import read_rows

PUBLISHED = Path(os.environ.get("ALIGNFLOW_TEST_DATA", Path(__file__).parents[4] / "shared" / "data")) / "judge_eval"
SMALL = Path(__file__).parent / "recorded_judge.jsonl"


def rows(*replies, **known):
    return [{"judge": "j", "human_preference": "a", **known, **reply} for reply in replies]


def test_a_small_file_of_replies_in_both_orders():
    (replies,) = recorded_replies(read_rows(SourceConfig(path=str(SMALL))), "small").values()
    report = judge_report(replies.outcomes, "small")
    orders = report["agreement"]["orders"]
    assert (
        orders["given"]["hits"],
        orders["swapped"]["hits"],
        orders["both_orders"]["hits"],
        orders["same"]["hits"],
    ) == (3, 2, 2, 2)
    assert report["abstentions"]["reasons"] == {NOT_UNDERSTOOD: 1} and report["flips"]["hits"] == 1


def test_a_verdict_in_a_text_speaks_of_seats_and_one_in_a_column_of_the_pair():
    said = rows(
        {"index": 0, "swapped": False, "completion": "Output (a)"},
        {"index": 0, "swapped": True, "completion": "Output (a)"},
    )
    (by_text,) = recorded_replies(said, "x")["j"].outcomes
    assert by_text.orders == (1.0, 0.0) and by_text.flips
    told = rows({"index": 0, "swapped": False, "winner": "1"}, {"index": 0, "swapped": True, "winner": "1"})
    (by_column,) = recorded_replies(told, "x")["j"].outcomes
    assert by_column.orders == (1.0, 1.0) and by_column.choice == by_column.gold == 1.0


def test_rows_that_cannot_be_counted_are_left_out_and_said():
    said = rows(
        {"winner": "a"},  # of which pair?
        {"winner": "b"},
        {"index": 0, "swapped": "perhaps", "winner": "a"},
        {"index": 0, "probability": 7},
        {"index": 1, "swapped": False, "winner": "a"},
        {"index": 1, "swapped": False, "winner": "b"},
    )
    found = recorded_replies(said, "x")["j"]
    assert [one.probability for one in found.outcomes] == [1.0] and found.read == 1
    assert found.dropped == {"no index id or prompt": 2, "not a boolean": 1, "no probability": 1, REPEATED: 1}


def test_probabilities_are_averaged():
    said = rows({"index": 0, "swapped": False, "probability": 0.9}, {"index": 0, "swapped": True, "probability": 0.7})
    assert recorded_replies(said, "x")["j"].outcomes[0].probability == pytest.approx(0.8)


def test_an_empty_reply_and_one_that_is_not_understood_give_no_label():
    said = rows(
        {"index": 0, "completion": " "}, {"index": 1, "completion": "I cannot say."}, {"index": 2, "completion": "B"}
    )
    found = recorded_replies(said, "x")["j"]
    assert [one.reason for one in found.outcomes] == [NO_REPLY, NOT_UNDERSTOOD, ""] and found.parsed == 3
    assert [one.probability for one in found.outcomes] == [None, None, 0.0]


def test_each_judge_and_template_has_its_own_replies():
    said = rows({"index": 0, "winner": "a", "template": "x"}, {"index": 0, "winner": "b", "template": "y"})
    assert list(recorded_replies(said, "x")) == ["j x", "j y"]


def test_a_file_without_replies_is_refused():
    with pytest.raises(DataError, match=r"no recorded reply \(no winner, probability or completion 1\)"):
        recorded_replies([{"prompt": "Why?"}], "x")


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Output (a)", 1.0),
        ("B", 0.0),
        ("[[C]]", 0.5),
        ("I think ... [[A]]", 1.0),
        ("Both are good. Therefore, Output (b) is better.", 0.0),
        ("Verdict: A", 1.0),
        ("8 | 7", 1.0),
        ("5 | 5", 0.5),
        ("", None),
        ("Output (a) is better. No: Output (b) is better.", None),
        ("a nice answer", None),
    ],
)
def test_verdicts_in_texts(text, verdict):
    assert verdict_in(text) == verdict


@pytest.mark.skipif(not (PUBLISHED / "llmbar_published_statistics.json").is_file(), reason="the data is not here")
def test_the_published_statistics_of_llmbar_come_out_of_its_recorded_replies():
    """All counts of 26 judges, exactly; and its kappas, for which LLMBar's script codes a verdict as 1 or else 0, and gold as 1 or 2."""
    replies = recorded_replies(read_rows(SourceConfig(path=str(PUBLISHED / "llmbar_recorded_judges.parquet"))), "x")
    published = json.loads((PUBLISHED / "llmbar_published_statistics.json").read_text())
    assert len(replies) == len(published) == 26
    for stated in published:
        outcomes = replies[f"{stated['judge']} {stated['template']}"].outcomes
        orders = judge_report(outcomes, "x")["agreement"]["orders"]
        for name, ours in (
            ("correct_False", "given"),
            ("correct_True", "swapped"),
            ("correct_both", "both_orders"),
            ("equal", "same"),
        ):
            assert orders[ours]["hits"] == int(stated[name].split()[0]) and orders[ours]["trials"] == 100
        average = 50 * (orders["given"]["rate"] + orders["swapped"]["rate"])
        assert average == pytest.approx(float(stated["correct_average"].rstrip("%")))
        coded = [[int(one.orders[order] == 1.0) for one in outcomes] for order in (0, 1)]
        gold = [1 if one.gold == 1.0 else 2 for one in outcomes]
        assert cohen_kappa(list(zip(*coded, strict=True))) == pytest.approx(float(stated["kappa_agreement"]), abs=1e-12)
        for order, name in enumerate(("kappa_False", "kappa_True")):
            assert cohen_kappa(list(zip(coded[order], gold, strict=True))) == pytest.approx(
                float(stated[name]), abs=1e-12
            )
