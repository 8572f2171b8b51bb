"""MLflow gets parameters, curves, final metrics and tags of a run, in a database of its own; skipped where it is not installed."""

import pytest
from tracked_support import RUN, STEP

from alignflow.data.configs.tracking import TrackingConfig
from alignflow.tasks.trackers.mlflow_tracker import MLflowTracker, _name


def test_names_have_only_characters_that_mlflow_takes():
    assert _name("final/win_rate/rubric:a,b c") == "final/win_rate/rubric:a_b c"


def test_everything_of_a_run_arrives(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    for _ in range(2):  # the second one finds the experiment
        tracker = MLflowTracker(TrackingConfig(name="mlflow", uri=uri, project="tests"), RUN)
        tracker.step(STEP)
        tracker.end("failed")
    client = tracker._client
    run, other = client.search_runs([client.get_experiment_by_name("tests").experiment_id])
    assert run.info.run_id in tracker.where() and other.info.run_id not in tracker.where()
    assert run.info.run_name == "mine" and run.info.status == "FAILED"
    assert run.data.params["align.options.beta"] == "0.1" and len(run.data.params) == 151
    history = client.get_metric_history(run.info.run_id, "align/loss")
    assert [(point.step, point.value) for point in history] == [(1, 0.7), (2, 0.5)]
    assert run.data.metrics["final/align/win_rate/rubric:a"] == 0.75
    assert run.data.tags["align.cached"] == "yes" and run.data.tags["align.digest"] == "d" * 64
