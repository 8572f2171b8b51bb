"""Every command that a message, a help text or a page names exists."""

import re

import typer

from alignflow.cli.app import app

NAMED = re.compile(r"`alignflow ([a-z][a-z_-]*)")


def test_every_command_that_is_named_exists(repository):
    known = set(typer.main.get_command(app).commands)
    files = [*repository.glob("alignflow/**/*.py"), *repository.glob("docs/**/*.md"), repository / "README.md"]
    named = {(name, file.name) for file in files for name in NAMED.findall(file.read_text())}
    assert len(named) > 50 and not {(name, file) for name, file in named if name not in known}
