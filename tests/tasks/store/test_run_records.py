"""What the store keeps of each run."""

import multiprocessing
import os
import signal

import pytest

from alignflow.data.artifacts import ArtifactRef
from alignflow.data.configs.gates import GateConfig
from alignflow.data.errors import ApprovalNeededError, GateStoppedError, StageError
from alignflow.data.gates import GateRecord
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.store.pins import Pins, using
from alignflow.tasks.store.run_records import PATTERN, Asked, read_run, recording, records

ASKED = Asked(name="mine", recipe={"seed": 1}, file="mine.yaml", settings={"seed": 1})
REF = ArtifactRef(kind="checkpoint", key="sft-1", digest="d")
GATE = GateConfig(stage="sft", metric="eval_loss", maximum=1, action="ask", why="more is noise")
MEASURED = GateRecord(
    gate="sft.eval_loss",
    stage="sft",
    metric="eval_loss",
    key="sft-1",
    digest="d",
    value=2.5,
    minimum=None,
    maximum=1,
    action="ask",
    verdict="asked",
)


def run(store, error=None, ran=True):
    """Record a run of one step that ends by `error`; returns what is recorded of it."""
    try:
        with using(store) as pins, recording(store, ASKED, pins) as record:
            record.step("sft", REF, ran)
            if error is not None:
                raise error
    except BaseException as raised:  # noqa: BLE001
        assert raised is error
    return next(records(store))


def test_a_record_has_what_was_asked_and_the_steps(store):
    found = run(store)
    assert found.asked == ASKED and found.steps == {"sft": "sft-1"} and found.ran == ["sft"]
    assert found.state == "done" and found.seconds is not None and found.error == ""


def test_a_run_that_found_every_step_is_cached(store):
    assert run(store, ran=False).state == "cached"


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (StageError("it broke", where="sft", do="mend it"), "failed"),
        (GateStoppedError("too low"), "stopped"),
        (ApprovalNeededError("look"), "waits"),
        (KeyboardInterrupt(), "interrupted"),
    ],
)
def test_the_state_says_how_a_run_ended(store, error, state):
    assert run(store, error).state == state


def test_the_error_says_where_and_what_in_one_line(store):
    assert run(store, StageError("it\nbroke", where="sft", do="mend it")).error == "sft: it broke"


def test_a_run_that_ends_while_a_person_is_asked_waits(store):
    class Suspended(BaseException):
        pass

    def ask(gate, measured):
        raise Suspended

    with pytest.raises(Suspended), using(store) as pins, recording(store, ASKED, pins) as record:
        record.asking(ask)(GATE, MEASURED)
    found = next(records(store))
    assert found.state == "waits" and found.question.suspended and found.question.gate == "sft.eval_loss"
    assert found.question.text == "eval_loss of sft is 2.5, and should be at most 1 (more is noise)"


def test_a_run_that_nobody_could_be_asked_in_waits_with_its_question_and_is_not_suspended(store):
    with pytest.raises(ApprovalNeededError), using(store) as pins, recording(store, ASKED, pins, "f-1") as record:
        assert record.asking(lambda gate, measured: None)(GATE, MEASURED) is None
        raise ApprovalNeededError("look")
    found = next(records(store))
    assert found.flow_run == "f-1" and found.question.key == "sft-1" and not found.question.suspended


def test_a_question_that_was_answered_is_none_any_more(store):
    with using(store) as pins, recording(store, ASKED, pins) as record:
        assert record.asking(lambda gate, measured: (True, "Ann", ""))(GATE, MEASURED)[0]
        assert record.record.question is None
    assert next(records(store)).state == "cached"


@pytest.mark.parametrize(
    ("error", "state"), [(ConnectionError("no server"), "failed"), (GateStoppedError("a person said no"), "stopped")]
)
def test_a_run_that_an_ordinary_error_ends_while_a_person_is_asked_does_not_wait(store, error, state):
    def ask(gate, measured):
        raise error

    with pytest.raises(type(error)), using(store) as pins, recording(store, ASKED, pins) as record:
        record.asking(ask)(GATE, MEASURED)
    assert next(records(store)).state == state


def test_a_run_is_running_while_its_process_lives_and_killed_afterwards(store):
    ready = multiprocessing.get_context("fork").Event()

    def work():
        own = ArtifactStore(store.root)
        with using(own) as pins, recording(own, ASKED, pins):
            ready.set()
            signal.pause()

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    assert ready.wait(20)
    assert next(records(store)).state == "running"
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    found = next(records(store))
    assert found.state == "killed" and found.seconds is None


def test_the_newest_run_comes_first_and_a_damaged_record_is_left_out_and_told_of(store, capsys):
    first, second = run(store), run(store)
    assert [found.id for found in records(store)] == [second.id, first.id]
    file = store.root / "runs" / f"{second.id}.json"
    file.write_bytes(file.read_bytes().replace(b"mine", b"thin"))
    with pytest.raises(ValueError):
        read_run(file)
    assert [found.id for found in records(store)] == [first.id]
    assert f"runs/{second.id}.json is damaged" in capsys.readouterr().err


def test_a_record_that_cannot_be_written_stops_no_run(store, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("alignflow.tasks.store.run_records.write_synced", full)
    with recording(store, ASKED, Pins()) as record:
        record.step("sft", REF, True)
    assert not list((store.root / "runs").glob(PATTERN)) and "cannot be written" in capsys.readouterr().err
