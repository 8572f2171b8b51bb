"""The command `alignflow`: its commands, and how errors reach a person."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated

import typer

import alignflow
from alignflow.cli import (
    annotate,
    chat,
    check_losses,
    compare,
    env,
    export,
    inspect,
    judge_data,
    judge_eval,
    label,
    lists,
    new,
    node,
    plan,
    push,
    run,
    runs,
    schedule,
    server,
    stored,
    submit,
    sweep,
    waiting,
)
from alignflow.cli.command_groups import GroupedCommands
from alignflow.cli.settings import DEBUG
from alignflow.data.errors import AlignflowError
from alignflow.data.printable import printable

app = typer.Typer(
    cls=GroupedCommands,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for module in (
    run,
    plan,
    sweep,
    node,
    new,
    lists,
    runs,
    stored,
    compare,
    env,
    chat,
    export,
    push,
    inspect,
    check_losses,
    judge_data,
    label,
    annotate,
    judge_eval,
    schedule,
    server,
    submit,
    waiting,
):
    module.register(app)


def _version(asked: bool) -> None:
    if asked:
        print(f"alignflow {alignflow.__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error. Every command takes this option.")
    ] = False,
) -> None:
    """A pipeline for RLHF and RLAIF: from raw data to an aligned and evaluated model. Every stage is cached."""


def main() -> None:
    """Run a command. An error prints one message on stderr; the exit status is 2 for the user's mistakes, 1 for failures."""
    debug = "--debug" in sys.argv
    if debug:  # every command takes it; commands that print more detail read the environment
        sys.argv.remove("--debug")
        os.environ[DEBUG] = "1"
    try:
        app()
    except AlignflowError as error:
        if debug:
            traceback.print_exc()
        print(printable(f"alignflow: {error}"), file=sys.stderr)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        print("alignflow: interrupted; finished stages are kept, run it again to continue", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        if debug:
            raise
        text = f"alignflow: unexpected {type(error).__name__}: {error}\n  run it again with --debug for the traceback"
        print(printable(text), file=sys.stderr)
        sys.exit(1)
