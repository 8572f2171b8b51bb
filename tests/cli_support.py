"""A command of alignflow run within the test's process, with the status and the messages of one of its own: a process takes two seconds to start."""

import io
import os
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from subprocess import CompletedProcess
from unittest.mock import patch

from alignflow.cli.app import main


def alignflow(*arguments, text=None, cwd=None, **environment):
    """Run `alignflow ARGUMENTS` with `text` as its input; returns what `subprocess.run` would.

    What a command sets in the environment is undone. A command that serves, or whose process is to be killed, needs a process.
    """
    words = ["alignflow", *map(str, arguments)]
    out, errors = io.StringIO(), io.StringIO()
    with (
        chdir(cwd or os.getcwd()),
        patch.dict(os.environ, {"COLUMNS": "200", **environment}),
        patch.object(sys, "argv", list(words)),
        patch.object(sys, "stdin", io.StringIO(text or "")),
        redirect_stdout(out),
        redirect_stderr(errors),
    ):
        try:
            main()
            status = 0
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return CompletedProcess(words, status, out.getvalue(), errors.getvalue())
