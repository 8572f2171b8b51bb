"""Where scores come from: bound before models load, None where there is none, summed by weight."""

import importlib
import math

import pytest

from alignflow.data import catalogue
from alignflow.data.configs.rewards import RewardSourceConfig
from alignflow.data.errors import RecipeError
from alignflow.data.records import user
from alignflow.models.rewards.combining import weighted_sum
from alignflow.models.rewards.sources import Episode, WeightedRewards, bind_sources, finite

ROW = {"id": "q", "prompt": user("the cat"), "instructions": None}


@pytest.fixture
def function(tmp_path, monkeypatch):
    """A source that calls a function with this body."""

    def of(body):
        (tmp_path / "measured.py").write_text(f"import math\ndef score(prompt, completion, row):\n    {body}\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        importlib.invalidate_caches()
        if "measured" in importlib.sys.modules:
            importlib.reload(importlib.sys.modules["measured"])
        return RewardSourceConfig(name="function", options={"function": "measured:score"})

    return of


def rewards(run, *configs):
    return WeightedRewards(bind_sources(configs), None, run)


@pytest.mark.parametrize(
    ("body", "score"),
    [
        ("return len(completion) + len(prompt) + (row['id'] == 'q')", 5.0),
        ("return True", 1.0),
        ("return None", None),
        ("return '1.0'", None),
        ("return math.nan", None),
        ("return math.inf", None),
        ("raise ValueError('no')", None),
        ("return 1 / 0", None),
    ],
)
def test_a_function_gives_a_finite_number_or_none(function, new_run, body, score):
    run = new_run()
    found = rewards(run, function(body)).score([Episode(ROW, "cat", True)] * 2)
    assert found == {"measured:score": [score, score]}
    assert len(run.warnings) == (score is None), "said once"


def test_a_rubric_scores_as_it_does_when_it_judges(new_run):
    config = RewardSourceConfig(
        name="judge", options={"judge": {"name": "rubric", "options": {"constitution": "reader"}}}
    )
    found = rewards(new_run(), config)
    assert found.names == ["rubric:reader"]
    assert found.score([Episode(ROW, "The cat is small. It is nice.", True)])["rubric:reader"][0] > 0.5


def test_equal_names_are_told_apart_and_weights_apply(function, new_run):
    config = function("return 2.0")
    found = rewards(new_run(), config, config.model_copy(update={"weight": -3.0}))
    scores = found.score([Episode(ROW, "x", True)])
    assert found.names == ["measured:score", "measured:score#1"] and found.combine(scores) == [-4.0]


def test_a_sum_with_a_missing_part_is_no_score():
    assert weighted_sum([1.0, None], [1.0, 0.5]) is None and weighted_sum([1.0, 2.0], [1.0, 0.5]) == 2.0


def test_the_reward_model_source_needs_a_reward_model(new_run):
    with pytest.raises(RecipeError, match="no reward model"):
        rewards(new_run(), RewardSourceConfig())


@pytest.mark.parametrize("value", [0, 1.5, True])
def test_numbers_are_numbers(value):
    assert finite(value) == float(value)


@pytest.mark.parametrize("value", [None, "2", [1], math.nan, -math.inf])
def test_what_is_no_finite_number_is_none(value):
    assert finite(value) is None


@pytest.mark.parametrize("name", list(catalogue.REWARDS))
def test_every_source_has_what_training_calls(name):
    kind = catalogue.REWARDS[name].resolve()
    assert all(callable(getattr(kind, part)) for part in ("check", "score", "details", "close"))
