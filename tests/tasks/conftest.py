"""A toy stage that real child processes know too: a module on PYTHONPATH and a sitecustomize that adds its row."""

import sys
from dataclasses import replace

import pytest

from alignflow.data import catalogue
from alignflow.data.run import Runtime
from alignflow.flows.steps import Link, Node  # noqa: F401 (for tests of this folder)
from alignflow.tasks.keys.content import ContentDigests
from alignflow.tasks.keys.key import stage_key
from alignflow.tasks.launch.call import StageCall

TOY = """
import os, signal, time
from pathlib import Path
from alignflow.data.configs.base import ContentPath, StageConfig, runtime_field
from alignflow.data.errors import DataError


class ToyConfig(StageConfig):
    text: str = "hello"
    act: str = runtime_field(default="write")
    log: str = runtime_field(default="")
    file: ContentPath | None = None


def toy(config, *, source, run):
    if config.log:
        with open(config.log, "a") as file:
            file.write(f"{os.getpid()}\\n")
    ACTS[config.act](config, run)
    (run.out / "part").mkdir()
    (run.out / "part" / "text.txt").write_text(config.text)
    (run.out / "model.safetensors").write_text(config.text * 3)
    run.count_tokens(7)
    return {"length": float(len(config.text))}


def refuse(config, run):
    raise DataError("no good", where="row 3", do="write better rows")


def wait(config, run):
    run.progress(1, 3, "steps", loss=0.5)
    time.sleep(600)


ACTS = {
    "write": lambda config, run: None,
    "slow": lambda config, run: time.sleep(1.5),
    "refuse": refuse,
    "break": lambda config, run: 1 / 0,
    "die": lambda config, run: os.kill(os.getpid(), signal.SIGKILL),
    "wait": wait,
}
"""
SITE = """
from alignflow.data import catalogue
from toy_stage import ToyConfig
catalogue.STAGES["toy"] = catalogue.Stage("toy_stage:toy", "A toy.", config=ToyConfig, takes=("source?",), makes="dataset")
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Add the stage `toy` to the catalogue, here and in child processes; returns its module."""
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "toy_stage.py").write_text(TOY)
    (folder / "sitecustomize.py").write_text(SITE)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    sys.modules.pop("toy_stage", None)
    import toy_stage

    row = catalogue.Stage("toy_stage:toy", "A toy.", config=toy_stage.ToyConfig, takes=("source?",), makes="dataset")
    monkeypatch.setitem(catalogue.STAGES, "toy", row)
    monkeypatch.setattr("alignflow.tasks.launch.stage.fingerprint", lambda table, name: "none")
    return toy_stage


@pytest.fixture
def call_of(toy, store):
    """Make the call of a toy config, with inputs by keyword; `version` stands for a changed stage."""

    def make(version="1", source=None, timeout_s=None, **fields):
        config = toy.ToyConfig(**fields)
        inputs = {"source": source} if source else {}
        previous = catalogue.STAGES["toy"]
        catalogue.STAGES["toy"] = replace(previous, version=version)
        key, components = stage_key("toy", config, inputs, Runtime(), ContentDigests(store.root))
        catalogue.STAGES["toy"] = previous
        return StageCall(
            name="toy",
            stage="toy",
            config=config.model_dump(mode="json"),
            inputs=inputs,
            runtime=Runtime(),
            key=key,
            components=components,
            timeout_s=timeout_s,
        )

    return make
