"""W&B gets parameters, curves, final metrics and tags of a run, here without a network; skipped where it is not installed."""

import getpass
import socket

import pytest
from tracked_support import RUN, STEP

from alignflow.data.configs.tracking import TrackingConfig
from alignflow.tasks.trackers.wandb_tracker import WandbTracker


def test_an_offline_run_is_in_its_directory_and_holds_nothing_of_the_machine(tmp_path):
    pytest.importorskip("wandb")
    config = TrackingConfig(name="wandb", mode="offline", directory=str(tmp_path / "new"), project="tests")
    tracker = WandbTracker(config, RUN)
    tracker.step(STEP)
    where = tracker.where()
    tracker.end("finished")
    (file,) = (tmp_path / "new").rglob("*.wandb")
    assert where == f"wandb, send it with `wandb sync {file.parent}`"
    content = file.read_bytes()
    for sent in (b"mine", b"align.options.beta", b"align/loss", b"final/align/win_rate/rubric:a", b"align.digest"):
        assert sent in content
    for name in (socket.gethostname(), getpass.getuser()):
        assert len(name) < 4 or name.encode() not in content
    assert not [path for path in file.parent.rglob("*") if path.name in ("requirements.txt", "wandb-metadata.json")]
