"""What a stage says about itself while it runs."""

import json

from alignflow.data import run as run_module
from alignflow.data.run import Run, Runtime


def test_time_left_is_counted_within_one_kind_of_work(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(run_module.time, "monotonic", lambda: now[0])
    run = Run(tmp_path, tmp_path, tmp_path, tmp_path, Runtime())

    def said(seconds, done, total, unit):
        now[0] += seconds
        run.progress(done, total, unit)
        return json.loads((tmp_path / "progress.json").read_text())["left_s"]

    assert said(0, 0, 10, "passes") is None
    assert said(50, 5, 10, "passes") == 50.0
    assert said(50, 20, 100, "steps") is None, "a resumed training starts at its step, and its time with it"
    assert said(10, 30, 100, "steps") == 70.0
