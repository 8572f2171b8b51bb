"""Runs the command line as a person would, and reads what it did."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from alignflow.data.step_names import base_of

REPOSITORY = Path(__file__).parents[1]
TINY = "recipes/tiny.yaml"
STAGES = ("init", "prepare", "sft", "sample", "label", "reward", "reference", "align", "evaluate", "report")
SOMETIMES = ("split", "merge")
"""Steps that the usual recipe does not have."""


class Runner:
    """Runs the command line on a store."""

    def __init__(self, store, url, extra=None):
        self.store, self.url, self.extra = Path(store), url, extra or {}

    def environment(self, **more):
        settings = {**os.environ, "ALIGNFLOW_HOME": str(self.store), "COLUMNS": "200", **self.extra, **more}
        return {**settings, "PREFECT_API_URL": self.url} if self.url else settings

    def start(self, *arguments, **environment):
        return subprocess.Popen(
            [sys.executable, "-m", "alignflow", *map(str, arguments)],
            cwd=REPOSITORY,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.environment(**environment),
        )

    def __call__(self, *arguments, status=0, **environment):
        process = self.start(*arguments, **environment)
        output, _ = process.communicate(timeout=1500)
        assert process.returncode == status, output
        return output

    def run(self, *arguments, recipe=TINY, **more):
        """`alignflow run`; returns step -> whether it ran."""
        return outcomes(self("run", recipe, *arguments, **more))

    def digests(self):
        """Step -> digest of its newest artifact."""
        found = {}
        for path in (self.store / "artifacts").glob("*/manifest.json"):
            manifest = json.loads(path.read_text())
            if manifest["stage"] not in found or manifest["created"] > found[manifest["stage"]][0]:
                found[manifest["stage"]] = (manifest["created"], manifest["digest"])
        return {stage: digest for stage, (_, digest) in found.items()}

    def artifact(self, stage):
        """The directory of the only artifact of a stage."""
        (found,) = (self.store / "artifacts").glob(f"{stage}-*")
        return found

    def copy(self, target):
        shutil.copytree(self.store, target)
        return Runner(target, self.url, self.extra)


def outcomes(output):
    """Step -> True (ran) or False (cached), from the lines before the table."""
    found = {}
    for line in output.splitlines():
        words = line.split()
        if len(words) >= 2 and base_of(words[0]) in (*STAGES, *SOMETIMES) and words[1] in ("ran", "cached"):
            found[words[0]] = words[1] == "ran" or found.get(words[0], False)
    return found


def missing(what):
    """Skip a test because a program is not installed; where ALIGNFLOW_NO_SKIPS is set, as in the CI, fail it."""
    (pytest.fail if os.environ.get("ALIGNFLOW_NO_SKIPS") else pytest.skip)(f"{what} is not installed")
