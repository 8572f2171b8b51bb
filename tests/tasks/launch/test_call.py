"""The one parameter of a stage task: small, frozen, and the same after a trip through JSON."""

import pytest
from pydantic import ValidationError

from alignflow.data.run import Runtime
from alignflow.tasks.launch.call import Sharding, StageCall

CALL = StageCall(
    name="sft",
    stage="init",
    config={"path": "x"},
    inputs={},
    runtime=Runtime(),
    key="init-0123456789abcdef",
    components={},
)


def test_people_read_the_first_digits_of_the_key():
    assert CALL.short_key == "01234567"


def test_it_goes_through_json_unchanged():
    assert StageCall.model_validate_json(CALL.model_dump_json()) == CALL


@pytest.mark.parametrize("change", [{"more": 1}, {"sharding": {"hosts": 2}}, {"runtime": {"device": "tpu"}}])
def test_what_it_does_not_know_is_refused(change):
    with pytest.raises(ValidationError):
        StageCall.model_validate({**CALL.model_dump(), **change})
    assert Sharding().shards == 1
