"""A run waits as long as its question has no answer."""

from contextlib import suppress

import pytest
from run_support import record_run

from alignflow.data.configs.gates import GateConfig
from alignflow.data.errors import ApprovalNeededError
from alignflow.data.gates import GateRecord
from alignflow.tasks.store.gates import GateLedger
from alignflow.tasks.store.pins import using
from alignflow.tasks.store.run_records import Asked, recording
from alignflow.tasks.store.waiting import waiting_runs

GATE = GateConfig(stage="reward", metric="eval_accuracy", minimum=0.6, action="ask")
MEASURED = GateRecord(
    gate=GATE.label,
    stage="reward",
    metric="eval_accuracy",
    key="reward-1",
    digest="d",
    value=0.5,
    minimum=0.6,
    maximum=None,
    action="ask",
    verdict="asked",
)


class Suspended(BaseException):
    """What Prefect ends a process with that waits for an answer."""


def ask_and_end(store, error, **asked):
    """A run that asks at its gate and ends by `error`: in the call, as a suspended one does, or after it."""
    GateLedger(store).add(MEASURED)

    def ask(gate, measured):
        if isinstance(error, Suspended):
            raise error

    with pytest.raises(type(error)), using(store) as pins, recording(store, Asked(**asked), pins, "f-1") as record:
        record.asking(ask)(GATE, MEASURED)
        raise error


def answered(store, verdict):
    GateLedger(store).add(MEASURED.model_copy(update={"verdict": verdict, "who": "Ann"}))


@pytest.mark.parametrize("error", [Suspended(), ApprovalNeededError("look")])
@pytest.mark.parametrize("verdict", ["approved", "refused"])
def test_a_run_waits_until_somebody_answers(store, error, verdict):
    ask_and_end(store, error, name="mine")
    (run,) = waiting_runs(store)
    assert run.question.gate == "reward.eval_accuracy" and run.question.suspended is isinstance(error, Suspended)
    answered(store, verdict)
    assert waiting_runs(store) == []


def test_a_run_that_is_asked_again_in_a_terminal_is_told_once(store):
    for _ in range(2):
        ask_and_end(store, ApprovalNeededError("look"), name="mine")
    ask_and_end(store, ApprovalNeededError("look"), name="mine", settings={"seed": 2})
    assert [run.asked.settings for run in waiting_runs(store)] == [{"seed": 2}, {}]


def test_a_run_in_a_terminal_waits_no_more_once_the_same_was_run_again(store):
    ask_and_end(store, ApprovalNeededError("look"), name="mine")
    with using(store) as pins, recording(store, Asked(name="mine"), pins):
        pass
    assert waiting_runs(store) == []


@pytest.mark.parametrize("error", [None, ValueError("it broke")])
def test_a_suspended_run_that_went_on_waits_no_more_whatever_came_of_it(store, error):
    ask_and_end(store, Suspended(), name="mine")
    with suppress(ValueError), using(store) as pins, recording(store, Asked(name="mine"), pins, "f-1"):
        if error:
            raise error
    assert waiting_runs(store) == []


def test_a_suspended_run_waits_whatever_was_run_after_it(store):
    ask_and_end(store, Suspended(), name="mine")
    with using(store) as pins, recording(store, Asked(name="mine"), pins):
        pass
    assert len(waiting_runs(store)) == 1


def test_a_later_run_of_another_part_of_the_recipe_does_not_hide_one_that_waits(store):
    ask_and_end(store, ApprovalNeededError("look"), name="mine", until="reward")
    record_run(store, {}, name="mine", only="sft")
    assert len(waiting_runs(store)) == 1
    record_run(store, {}, name="mine", until="reward")
    assert waiting_runs(store) == []
