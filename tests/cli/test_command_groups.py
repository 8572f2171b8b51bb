"""`alignflow --help`: every command stands under one heading."""

from itertools import chain

from typer.main import get_command
from typer.testing import CliRunner

import alignflow
from alignflow.cli.app import app
from alignflow.cli.command_groups import GROUPS


def test_every_command_stands_under_one_heading():
    listed = list(chain.from_iterable(GROUPS.values()))
    assert sorted(listed) == sorted(get_command(app).commands)


def test_the_help_shows_the_headings_and_no_other():
    shown = CliRunner().invoke(app, ["-h"]).output
    assert [line[:-1] for line in shown.splitlines() if line[:1].isalpha() and line.endswith(":")] == [
        "Options",
        *GROUPS,
    ]


def test_the_version_is_told_without_a_command():
    done = CliRunner().invoke(app, ["--version"])
    assert (done.exit_code, done.output) == (0, f"alignflow {alignflow.__version__}\n")
