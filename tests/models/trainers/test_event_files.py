"""TensorBoard shows the points of the curves, each once."""

import pytest

pytest.importorskip("tensorboard")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from alignflow.models.trainers.event_files import EventFiles


def shown(run):
    events = EventAccumulator(str(run.side / "tensorboard"))
    events.Reload()
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_every_point_is_written_under_its_name_at_once(new_run):
    run = new_run()
    events = EventFiles(run)
    run.curve(5, {"loss": 2.0, "rewards/margins": 0.5})
    run.curve(5, {"eval_loss": 3.0})
    run.curve(10, {"loss": 1.0})
    assert shown(run) == {"loss": [(5, 2.0), (10, 1.0)], "rewards/margins": [(5, 0.5)], "eval_loss": [(5, 3.0)]}, (
        "before it is closed"
    )
    events.close()
    run.curve(15, {"loss": 0.5})
    assert len(shown(run)["loss"]) == 2, "closed"


def test_a_resumed_run_shows_each_point_once(new_run):
    run = new_run()
    EventFiles(run)
    run.curve(5, {"loss": 2.0})
    run.curve(10, {"loss": 1.5})
    resumed = new_run()
    (resumed.side / "curves.jsonl").write_text('{"step": 5, "loss": 2.0}\n')  # what `fit` keeps of a killed run
    events = EventFiles(resumed)
    resumed.curve(10, {"loss": 1.0})
    events.close()
    assert shown(resumed) == {"loss": [(5, 2.0), (10, 1.0)]}
