"""A jury: how verdicts combine, what disagreement is, and that a member without a label is counted."""

import json
import math

import pytest
from judge_support import pair
from pydantic import ValidationError

from alignflow.data.configs.judges import JuryOptions
from alignflow.data.errors import DataError
from alignflow.models.judges import jury as module
from alignflow.models.judges.base import JudgeInputs, Verdict
from alignflow.models.judges.jury import Jury, weights_of_agreement


class Says:
    """A member with one verdict for all pairs."""

    pointwise, fingerprint = False, "says"

    def __init__(self, verdict):
        self.verdict, self.closed = verdict, False

    def compare(self, pairs):
        return [self.verdict for _ in pairs]

    def close(self):
        self.closed = True


def label(probability):
    return Verdict(probability, orders=(probability, probability))


FLIPS = Verdict(0.6, orders=(0.9, 0.3))
NONE = Verdict(None, reason="too long")


@pytest.fixture
def jury_of(monkeypatch, new_run):
    def make(*verdicts, weights=(), **options):
        members = iter([Says(verdict) for verdict in verdicts])
        monkeypatch.setattr(module, "make_judge", lambda *_, **__: next(members))
        judges = [
            {"name": "rubric", **({"weight": weight} if weight is not None else {})}
            for weight in weights or [None] * len(verdicts)
        ]
        return Jury(JuryOptions(judges=judges, **options), JudgeInputs(None, None, new_run()))

    return make


def asked(jury):
    return jury.compare([pair("x", "y")])[0]


def test_the_mean_and_the_standard_deviation(jury_of):
    verdict = asked(jury_of(label(0.9), label(0.7), label(0.2)))
    assert verdict.probability == pytest.approx(0.6) and not verdict.flips
    assert verdict.parts["disagreement"] == pytest.approx(math.sqrt((0.09 + 0.01 + 0.16) / 3))
    assert verdict.parts["rubric#1"] == 0.9 and "members_without_label" not in verdict.parts


def test_a_majority_counts_votes_and_a_tie_half(jury_of):
    assert asked(jury_of(label(0.51), label(0.6), label(0.0), combine="majority")).probability == pytest.approx(2 / 3)
    assert asked(jury_of(label(0.5), label(0.6), combine="majority")).probability == pytest.approx(0.75)


def test_weights_weigh(jury_of):
    verdict = asked(jury_of(label(1.0), label(0.0), weights=(3.0, 1.0), combine="weighted"))
    assert verdict.probability == pytest.approx(0.75)


def test_a_member_that_changes_its_mind_says_one_half(jury_of):
    assert asked(jury_of(FLIPS, label(0.8))).probability == pytest.approx(0.65)
    assert asked(jury_of(FLIPS, FLIPS)).probability == 0.5


def test_members_without_a_label_are_counted_and_a_quorum_may_be_asked_for(jury_of):
    verdict = asked(jury_of(NONE, label(0.8)))
    assert verdict.probability == 0.8 and verdict.parts["members_without_label"] == 1
    none = asked(jury_of(NONE, label(0.8), quorum=2))
    assert none.probability is None and "too long" in none.reason and none.parts["members_without_label"] == 1


def test_equal_answers_are_not_asked(jury_of):
    assert jury_of(label(0.9), label(0.9)).compare([pair("x", "x")])[0].reason == "identical"


def test_all_members_are_closed(jury_of):
    jury = jury_of(label(0.9), label(0.9))
    members = jury._members
    jury.close()
    assert all(member.closed for member in members)


def report(path, accuracy):
    path.write_text(json.dumps({"reports": [{"agreement": {"accuracy": {"rate": accuracy}}}]}))
    return path


def test_agreement_weighs_by_its_log_odds_and_chance_by_nothing(tmp_path):
    reports = [report(tmp_path / f"{rate}.json", rate) for rate in (0.8, 0.5, 0.3)]
    assert weights_of_agreement(reports) == [pytest.approx(math.log(4)), 0.0, 0.0]
    with pytest.raises(DataError, match="by chance"):
        weights_of_agreement(reports[1:])


def test_a_report_without_an_accuracy_is_named(tmp_path):
    (tmp_path / "none.json").write_text('{"reports": [{"agreement": null}]}')
    with pytest.raises(DataError, match=r"none\.json"):
        weights_of_agreement([tmp_path / "none.json"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"judges": [{"name": "rubric"}]}, "at least 2"),
        ({"judges": [{"name": "rubric"}] * 2, "combine": "weighted"}, "needs a weight"),
        ({"judges": [{"name": "rubric", "weight": 2}, {"name": "rubric"}]}, "not read"),
        ({"judges": [{"name": "rubric"}] * 2, "quorum": 3}, "only 2"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        JuryOptions.model_validate(options)
