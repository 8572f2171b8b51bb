"""Win rates of answers to the same prompt."""

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignflow.data.configs.rewards import RewardSourceConfig, WinRateRewardOptions
from alignflow.data.errors import RecipeError
from alignflow.data.records import user
from alignflow.models.judges.base import IDENTICAL, Verdict
from alignflow.models.rewards.episodes import Episode
from alignflow.models.rewards.sources import WeightedRewards, bind_sources
from alignflow.models.rewards.win_rates import check_group_size, probability_of, win_rates


@given(st.integers(2, 7), st.data())
def test_win_rates_of_a_group_sum_to_half_its_size(count, data):
    wins = {pair: data.draw(st.floats(0, 1)) for pair in combinations(range(count), 2)}
    found = win_rates(wins, count)
    assert sum(found) == pytest.approx(count / 2) and all(0 <= rate <= 1 for rate in found)


def test_a_comparison_without_a_verdict_is_in_no_mean():
    assert win_rates({(0, 1): 0.75, (0, 2): None, (1, 2): None}, 3) == [0.75, 0.25, None]


@pytest.mark.parametrize(
    ("verdict", "probability"),
    [
        (Verdict(0.8, orders=(0.9, 0.7)), 0.8),
        (Verdict(0.55, orders=(0.9, 0.2)), 0.5),
        (Verdict(0.5), 0.5),
        (Verdict(None, reason=IDENTICAL), 0.5),
        (Verdict(None, reason="too long"), None),
    ],
)
def test_a_verdict_that_turns_is_a_tie_and_none_is_no_tie(verdict, probability):
    assert probability_of(verdict) == probability


class WhatIsLonger:
    """A pairwise judge: the longer answer; none where an answer is empty."""

    pointwise, fingerprint = False, ""
    asked: list = []

    def __init__(self, options, inputs):
        pass

    def compare(self, pairs):
        self.asked.append(len(pairs))
        return [self._verdict(one.text, other.text) for one, other in pairs]

    @staticmethod
    def _verdict(one, other):
        if not one or not other:
            return Verdict(None, reason="empty")
        win = 0.5 if len(one) == len(other) else float(len(one) > len(other))
        return Verdict(win, orders=(win, win))

    def score(self, candidates):
        return [None] * len(candidates)

    def probability(self, first, second):
        return 0.5

    def details(self, candidates):
        return [{} for _ in candidates]

    def close(self):
        pass


@pytest.fixture
def longer(monkeypatch):
    monkeypatch.setitem(
        __import__("sys").modules, "longer_judge", __import__("types").SimpleNamespace(Longer=WhatIsLonger)
    )
    WhatIsLonger.asked.clear()
    return lambda **options: RewardSourceConfig(
        name="win_rate", options={"judge": {"name": "longer_judge:Longer"}, **options}
    )


def episodes(*answers, reference=None):
    return [Episode({"id": name, "prompt": user(name), "reference": reference}, text, True) for name, text in answers]


def test_answers_are_compared_within_their_prompt_once_and_all_at_once(longer, new_run):
    run = new_run()
    source = WeightedRewards(bind_sources([longer()]), None, run)
    found = source.score(episodes(("q", "aa"), ("r", "b"), ("q", "aaa"), ("r", ""), ("q", "a")))
    (name,) = source.names
    assert found[name] == [0.5, None, 1.0, None, 0.0] and WhatIsLonger.asked == [4]
    assert found[f"{name}/no_verdict"] == [0.0, 1.0, 0.0, 1.0, 0.0]
    assert source.combine(found) == found[name] and len(run.warnings) == 1


def test_against_the_reference_a_row_without_one_has_no_score(longer, new_run):
    source = WeightedRewards(bind_sources([longer(against="reference")]), None, new_run())
    rows = [*episodes(("q", "aaa"), ("q", "a"), reference="bb"), *episodes(("r", "a"))]
    assert source.score(rows)[source.names[0]] == [1.0, 0.0, None] and WhatIsLonger.asked == [2]


def test_one_answer_per_prompt_has_nothing_to_be_compared_with():
    with pytest.raises(RecipeError, match="several answers"):
        check_group_size(WinRateRewardOptions(), 1, "x")
    check_group_size(WinRateRewardOptions(against="reference"), 1, "x")
    check_group_size(WinRateRewardOptions(), 2, "x")


def test_a_prompt_that_an_update_has_twice_has_two_groups(longer, new_run):
    """As advantages have it, whichever process the second one is in."""
    given = episodes(("q", "a"), ("q", "aa"), ("q", "aaa"), ("q", "aaaa"))
    twice = [replace(episode, group=place // 2) for place, episode in enumerate(given)]
    source = WeightedRewards(bind_sources([longer()]), None, new_run(), normalize="group")
    found = source.score(twice)
    assert found[source.names[0]] == [0.0, 1.0, 0.0, 1.0] and WhatIsLonger.asked == [2]
    assert source.combine(found) == pytest.approx([-(0.5**0.5), 0.5**0.5] * 2)
    assert source.combine(source.score(given))[1] == pytest.approx(-0.387, abs=1e-3)
