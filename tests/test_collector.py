"""The garbage collector rests while libraries are imported, and runs again afterwards, whoever paused it."""

import gc
import json
import subprocess
import sys
from pathlib import Path

import pytest

import alignflow
from alignflow import collector
from alignflow.data import catalogue
from alignflow.worker import import_body


@pytest.fixture(autouse=True)
def as_before():
    yield
    gc.unfreeze()
    gc.enable()


def test_it_does_not_run_inside_the_block():
    with collector.paused():
        made = [[] for _ in range(100_000)]
        assert not gc.isenabled() and gc.get_count()[0] > 0.9 * len(made), (
            "nothing was collected meanwhile; what other code frees by itself lowers the count a little"
        )
    assert gc.isenabled() and gc.get_freeze_count() == 0


def test_a_block_inside_of_another_pause_does_not_end_it():
    collector.pause()
    with collector.paused():
        pass
    assert not gc.isenabled()


def test_it_never_looks_at_what_there_was_before_it_was_resumed():
    collector.pause()
    made = [[] for _ in range(100_000)]
    collector.resume()
    assert gc.isenabled() and gc.get_freeze_count() > len(made)


def test_resuming_what_was_not_paused_changes_nothing():
    collector.resume()
    assert gc.isenabled() and gc.get_freeze_count() == 0


def test_it_runs_again_after_an_import_that_failed():
    with pytest.raises(ImportError), collector.paused():
        raise ImportError
    assert gc.isenabled()


def test_it_runs_again_before_the_body_of_a_stage_does():
    collector.pause()
    assert callable(import_body(catalogue.STAGES["report"])) and gc.isenabled()


def test_a_process_starts_without_it(tmp_path):
    (tmp_path / "asks.py").write_text("import gc, json; print(json.dumps(gc.isenabled()))")
    start = Path(alignflow.__file__).with_name("start.py")
    done = subprocess.run(
        [sys.executable, "-P", start, "asks"],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout) is False


def test_the_server_runs_with_it(monkeypatch):
    app = pytest.importorskip("alignflow.server.app")
    seen = []

    class Served:
        started = True

        def __init__(self, config):
            pass

        def run(self, sockets):
            seen.append(gc.isenabled())

    monkeypatch.setattr(app, "create_app", lambda **_: None)
    monkeypatch.setattr(app, "patched", lambda made, lasting: made)
    monkeypatch.setattr(app.uvicorn, "Server", Served)
    monkeypatch.setattr(app.uvicorn, "Config", lambda *_, **__: None)
    collector.pause()
    app.serve(app.ServerSettings(port=1), "alignflow:x")
    assert seen == [True]
