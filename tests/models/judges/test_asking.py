"""What stages that ask a judge share."""

import json

import pytest

from alignflow.data.judging.calibration import Calibration
from alignflow.data.records import user
from alignflow.models.judges.asking import calibrated, outcome_of, packed, unpacked
from alignflow.models.judges.base import Candidate, Verdict

PAIR = (Candidate(user("Why?"), "one"), Candidate(user("Why?"), "three"))
VERDICT = Verdict(0.6, (None, None), (0.9, 0.3), "", (0.8, 0.7))


def test_a_verdict_passes_through_json():
    assert unpacked(PAIR, *json.loads(json.dumps(packed(VERDICT)))) == VERDICT


def test_no_judge_decides_between_equal_answers():
    assert unpacked((PAIR[0], PAIR[0]), *packed(VERDICT)).probability is None


def test_a_verdict_is_an_outcome_with_lengths_and_gold():
    found = outcome_of(VERDICT, "p", ("one", "three"), gold=1.0)
    assert found.lengths == (3, 5) and found.orders == (0.9, 0.3) and found.gold == 1.0 and found.flips


def test_calibration_changes_label_and_orders_and_nothing_else():
    found = calibrated(VERDICT, Calibration(1.0, 1.5))
    assert not found.flips and VERDICT.flips and found.masses == VERDICT.masses and found.probability != 0.6
    assert calibrated(VERDICT, None) is VERDICT
    assert calibrated(Verdict(None, reason="too long"), Calibration(1.0, 1.5)) == Verdict(None, reason="too long")


def test_a_calibrated_label_is_the_mean_of_its_orders():
    found = calibrated(VERDICT, Calibration(0.5, 0.3))
    assert found.probability == pytest.approx(sum(found.orders) / 2)
