"""A tracker is checked before anything runs, and its login goes to no stage."""

import importlib.util
from types import SimpleNamespace
from typing import get_args

import pytest

from alignflow.data.configs.tracking import TrackingConfig
from alignflow.data.errors import UserError
from alignflow.tasks.launch.environment import stage_environment
from alignflow.tasks.trackers.base import ADDRESSES, TrackedStep, check_tracker

MLFLOW, WANDB = TrackingConfig(name="mlflow"), TrackingConfig(name="wandb")


@pytest.fixture
def installed(monkeypatch):
    """Has every package found at a place, or, with None, as a folder that is none."""
    return lambda origin: monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: SimpleNamespace(origin=origin, name=name)
    )


def test_a_recipe_without_a_tracker_needs_nothing():
    check_tracker(None)


def test_a_package_that_is_missing_is_refused_with_the_line_that_installs_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="mlflow is not installed") as refused:
        check_tracker(MLFLOW)
    assert "pip install 'alignflow[mlflow]'" in str(refused.value)


def test_a_folder_with_the_name_of_the_package_is_no_package(installed):
    installed(None)
    with pytest.raises(UserError, match="wandb is not installed"):
        check_tracker(WANDB)


def test_wandb_online_needs_a_key_and_offline_does_not(installed, monkeypatch):
    installed("/site/wandb/__init__.py")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with pytest.raises(UserError, match="WANDB_API_KEY is not set"):
        check_tracker(WANDB)
    check_tracker(TrackingConfig(name="wandb", mode="offline"))
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    check_tracker(WANDB)


@pytest.mark.parametrize(
    "name", ["WANDB_API_KEY", "WANDB_BASE_URL", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"]
)
def test_settings_and_logins_of_trackers_go_to_no_stage(name):
    assert name not in stage_environment({name: "secret"})


def test_every_tracker_that_a_recipe_may_name_has_a_class():
    names = get_args(TrackingConfig.model_fields["name"].annotation)
    for name in names:
        module, _, cls = ADDRESSES[name].partition(":")
        assert callable(getattr(importlib.import_module(module), cls)), "it is imported without its client"


def test_the_tags_of_a_step_say_whether_it_was_found():
    step = TrackedStep("align", [], {}, "align-1", "d" * 64, cached=True)
    assert step.tags == {"align.artifact": "align-1", "align.digest": "d" * 64, "align.cached": "yes"}
