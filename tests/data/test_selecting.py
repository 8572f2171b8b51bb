"""Best of n, a threshold, rejection sampling: which scored answers are kept, and that all others are counted."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from alignflow.data.configs.selecting import SelectConfig
from alignflow.data.errors import DataError
from alignflow.data.records import read_table, user, write_table
from alignflow.data.run import Run, Runtime
from alignflow.data.selecting import accept_probabilities, kept_of, select


def make_run(root):
    for name in ("out", "side", "work", "rows"):
        (root / name).mkdir(parents=True)
    return Run(**{name: root / name for name in ("out", "side", "work", "rows")}, runtime=Runtime())


def ranking(scores, ended=None, texts=None, name="p"):
    texts = texts or [f"answer {place}" for place in range(len(scores))]
    return {"id": name, "source": "s", "prompt": user("Why?"), "completions": texts, "scores": scores, "ended": ended}


@pytest.mark.parametrize(
    ("row", "settings", "places", "dropped", "tied"),
    [
        (ranking([1.0, 3.0, 2.0]), {}, [1], {"not among the best": 2}, False),
        (ranking([1.0, 3.0, 2.0]), {"n": 2}, [1, 2], {"not among the best": 1}, False),
        (ranking([3.0, 3.0, 2.0]), {}, [0], {"not among the best": 2}, True),
        (ranking([3.0, 3.0, 2.0]), {"n": 2}, [0, 1], {"not among the best": 1}, False),
        (ranking([9.0, 1.0], [False, True]), {}, [1], {"cut at the token limit": 1}, False),
        (ranking([9.0, 9.0], None, ["same", "same"]), {"n": 2}, [0], {"same text as another answer": 1}, False),
        (ranking([1.0, 2.0]), {"minimum": 5.0}, [], {"below select.minimum": 2}, False),
        (ranking([1.0, 5.0, 7.0]), {"rule": "threshold", "minimum": 5.0}, [1, 2], {"below select.minimum": 1}, False),
        (ranking([None, 2.0]), {}, [1], {"no score": 1}, False),
    ],
)
def test_what_is_kept_and_why_the_rest_is_not(row, settings, places, dropped, tied):
    found = kept_of(row, SelectConfig(**settings))
    assert (found.places, dict(found.dropped), found.tied) == (places, dropped, tied)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=8), st.floats(0.1, 10), st.integers(0, 9))
def test_rejection_sampling_always_keeps_the_best_and_is_a_function_of_the_seed(scores, beta, seed):
    config = SelectConfig(rule="rso", beta=beta, seed=seed)
    found = kept_of(ranking(scores), config)
    assert scores.index(max(scores)) in found.places and found.places == kept_of(ranking(scores), config).places
    assert len(found.places) + sum(found.dropped.values()) == len(scores)
    chances = accept_probabilities(scores, beta)
    assert max(chances) == 1 and chances == [math.exp((score - max(scores)) / beta) for score in scores]


def test_answers_are_accepted_as_often_as_the_rule_says():
    rows = [ranking([1.0, 0.5], name=f"p{number}") for number in range(2000)]
    accepted = sum(1 in kept_of(row, SelectConfig(rule="rso", beta=0.5)).places for row in rows)
    assert accepted / 2000 == pytest.approx(math.exp(-1), abs=0.04)


@pytest.mark.parametrize("wrong", [{"beta": 1.0}, {"rule": "rso", "n": 2}, {"rule": "threshold"}])
def test_a_field_that_the_rule_does_not_read_is_refused(wrong):
    with pytest.raises(ValidationError):
        SelectConfig(**wrong)


def test_the_stage_writes_demonstrations_lists_and_pairs_and_says_ties_and_losses(tmp_path):
    folder = tmp_path / "rankings"
    write_table([ranking([1.0, 3.0]), ranking([2.0, 2.0], name="q")], "rankings", folder / "train.parquet")
    write_table([ranking([1.0, 2.0], [False, False], name="h")], "rankings", folder / "heldout.parquet")
    run = make_run(tmp_path / "run")
    metrics = select(SelectConfig(), rankings=folder, run=run)
    texts = [row["messages"][-1]["content"] for row in read_table(run.out / "demonstrations" / "train.parquet")]
    assert texts == ["answer 1", "answer 0"]
    assert metrics["answers/train"] == 2 and metrics["answers/heldout"] == 0 and metrics["ties"] == 1
    assert metrics["score/mean"] == 2.5
    both = select(SelectConfig(n=2), rankings=folder, run=(other := make_run(tmp_path / "other")))
    (pair,) = read_table(other.out / "preferences" / "train.parquet")
    assert both["pairs/train"] == 1 and (pair["score_chosen"], pair["score_rejected"]) == (3.0, 1.0)
    with pytest.raises(DataError, match="no answer is left"):
        select(SelectConfig(minimum=9.0), rankings=folder, run=make_run(tmp_path / "third"))
