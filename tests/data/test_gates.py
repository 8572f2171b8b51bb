"""A gate is a predicate: what it says depends on value and limits alone, and an approval holds for what was approved."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from alignflow.data.configs.gates import GateConfig
from alignflow.data.configs.recipe import Recipe
from alignflow.data.errors import RecipeError
from alignflow.data.gates import GateRecord, approval_holds, finding, is_met, limits, measured
from alignflow.flows.graph import nodes

NUMBERS = st.floats(-1e6, 1e6).map(lambda value: _grid(value))


def gate(**fields):
    return GateConfig(**{"stage": "reward", "metric": "eval_accuracy", "minimum": 0.6, **fields})


def record(of, digest="d", verdict="approved", **fields):
    return GateRecord(
        gate=of.label,
        stage=of.stage,
        metric=of.metric,
        key="reward-1",
        digest=digest,
        value=0.5,
        minimum=of.minimum,
        maximum=of.maximum,
        action=of.action,
        verdict=verdict,
        **fields,
    )


def _grid(value):
    """A number that a limit may be: nothing nearer 0 than 1e-9."""
    return round(value, 9)


@given(value=NUMBERS, low=NUMBERS, high=NUMBERS, less=st.floats(0, 1e6), more=st.floats(0, 1e6))
def test_what_passes_a_gate_passes_one_with_wider_limits(value, low, high, less, more):
    low, high, less, more = *sorted((low, high)), *map(_grid, (less, more))
    if is_met(gate(minimum=low, maximum=high), value):
        assert is_met(gate(minimum=_grid(low - less), maximum=_grid(high + more)), value)
        assert is_met(gate(minimum=low), value) and is_met(gate(minimum=None, maximum=high), value)


@given(value=NUMBERS, low=NUMBERS, more=st.floats(0, 1e6))
def test_a_larger_value_passes_a_minimum_that_a_smaller_one_passes(value, low, more):
    assert is_met(gate(minimum=low), value + more) or not is_met(gate(minimum=low), value)


@pytest.mark.parametrize(
    ("value", "wanted"), [(0.6, True), (0.6 - 1e-9, False), (0.0, False), (None, False), (math.nan, False)]
)
def test_the_limit_itself_passes_and_what_was_not_measured_does_not(value, wanted):
    assert is_met(gate(), value) is wanted
    assert is_met(gate(minimum=-1.0), 0.0), "a measured zero is a value"


def test_what_was_not_measured_is_said_so():
    assert finding(gate(), None) == "eval_accuracy of reward was not measured, and should be at least 0.6"
    assert finding(gate(maximum=0.9), 0.0) == "eval_accuracy of reward is 0, and should be at least 0.6 and at most 0.9"


def test_a_metric_that_the_stage_does_not_have_is_refused_with_those_that_it_has():
    with pytest.raises(RecipeError, match="it has loss, eval_accuracy") as refused:
        measured(gate(metric="eval_acuracy"), {"loss": 1.0, "eval_accuracy": 0.5})
    assert "did you mean 'eval_accuracy'?" in str(refused.value)
    assert measured(gate(), {"eval_accuracy": None}) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"minimum": None},
        {"minimum": 2.0, "maximum": 1.0},
        {"minimum": math.nan},
        {"action": "halt"},
        {"name": "two words"},
        {"limit": 1},
    ],
)
def test_a_gate_that_means_nothing_is_refused(fields):
    with pytest.raises(ValidationError):
        gate(**fields)


def test_a_gate_is_called_by_its_stage_and_metric_unless_it_has_a_name():
    assert gate().label == "reward.eval_accuracy" and gate(name="good").label == "good"
    with pytest.raises(ValidationError, match="two gates are called 'reward.eval_accuracy'"):
        Recipe(gates=(gate(), gate(minimum=0.7)))


def test_a_gate_on_a_step_that_the_recipe_does_not_have_is_refused():
    content = {"data": {"demonstrations": [{"path": "file.jsonl"}]}, "gates": [gate(stage="rewad").model_dump()]}
    with pytest.raises(RecipeError, match="no step 'rewad'") as refused:
        nodes(Recipe.model_validate(content))
    assert "did you mean 'reward'?" in str(refused.value)


@pytest.mark.parametrize(
    ("now", "holds"),
    [
        ({}, True),
        ({"minimum": 0.5}, True),
        ({"minimum": 0.7}, False),
        ({"maximum": 0.9}, False),
        ({"metric": "loss"}, False),
        ({"name": "x"}, False),
    ],
)
def test_an_approval_holds_for_the_same_gate_with_limits_that_are_no_stricter(now, holds):
    assert approval_holds(record(gate()), gate(**now), "d") is holds


def test_an_approval_holds_for_the_artifact_that_was_looked_at():
    assert not approval_holds(record(gate()), gate(), "another")
    assert not approval_holds(record(gate(), verdict="refused"), gate(), "d")


@given(
    low=st.none() | NUMBERS,
    high=st.none() | NUMBERS,
    low_now=st.none() | NUMBERS,
    high_now=st.none() | NUMBERS,
    value=NUMBERS,
)
def test_whatever_passes_the_approved_limits_passes_those_that_the_approval_still_holds_for(
    low, high, low_now, high_now, value
):
    def make(minimum, maximum):
        return gate(minimum=minimum, maximum=maximum) if (minimum, maximum) != (None, None) else None

    try:
        then, now = make(low, high), make(low_now, high_now)
    except ValidationError:
        return
    if then and now and approval_holds(record(then), now, "d") and is_met(then, value):
        assert is_met(now, value), (limits(then), limits(now))


def test_an_override_is_an_approval_that_nobody_was_asked_for():
    assert record(gate(action="stop")).override and not record(gate(action="ask")).override
