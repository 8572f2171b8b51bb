"""Checks as sources of rewards: what they count and say."""

from alignflow.data.configs.rewards import RewardSourceConfig
from alignflow.models.rewards.episodes import Episode
from alignflow.models.rewards.sources import WeightedRewards, bind_sources

ROWS = [{"id": "a", "reference": "7"}, {"id": "b", "reference": "many"}, {"id": "c"}]


def test_wrong_and_unreadable_answers_score_0_and_unchecked_ones_nothing(new_run):
    run = new_run()
    source = WeightedRewards(bind_sources([RewardSourceConfig(name="verifier")]), None, run)
    episodes = [Episode(row, text, True) for row in ROWS for text in ("7", "8", "no idea")]
    found = source.score(episodes)
    assert found == {
        "numeric_answer": [1.0, 0.0, 0.0, *[None] * 6],
        "numeric_answer/unparsed": [0.0, 0.0, 1.0, *[None] * 6],
        "numeric_answer/unchecked": [0.0] * 3 + [1.0] * 6,
    }
    assert source.combine(found) == found["numeric_answer"], "only the scores are rewards"
    source.score(episodes)
    assert len(run.warnings) == 2, "each reason is said once"
    assert all("3 of 9 answers cannot be checked" in warning for warning in run.warnings)
    assert "(row b)" in run.warnings[0] and "(row c)" in run.warnings[1]


def test_reasons_that_name_rows_are_said_a_few_times_and_counted_always(new_run):
    run = new_run()
    source = WeightedRewards(bind_sources([RewardSourceConfig(name="per_row")]), None, run)
    found = source.score([Episode({"id": str(i), "verifier": f"v{i}"}, "7", True) for i in range(20)])
    assert found["per_row/unchecked"] == [1.0] * 20 and len(run.warnings) == 5


def test_sources_are_normalised_within_the_prompt_where_the_recipe_says_so(new_run):
    length = {"verifier": {"name": "length", "options": {"unit": "words", "most": 1, "falls_over": 100}}}
    configs = [RewardSourceConfig(name="verifier"), RewardSourceConfig(name="verifier", options=length, weight=0.5)]
    episodes = [Episode(ROWS[0], text, True) for text in ("7", "so it is 7", "8", "so it is 8")]
    raw, normal = (WeightedRewards(bind_sources(configs), None, new_run(), normalize=how) for how in ("off", "group"))
    assert raw.combine(raw.score(episodes)) == [1.5, 1 + 0.5 * 0.97, 0.5, 0.5 * 0.97]
    high = 3**0.5 / 2  # of two ones and two zeros, deviation of a sample
    found = normal.combine(normal.score(episodes))
    assert [round(value, 9) for value in found] == [round(high * value, 9) for value in (1.5, 0.5, -0.5, -1.5)]
