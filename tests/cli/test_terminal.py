"""The console: escape sequences in texts are written out, its own colours stay."""

import io

from alignflow.cli.terminal import Console


def test_a_text_cannot_steer_the_terminal():
    out = io.StringIO()
    Console(file=out, force_terminal=True, color_system="standard").print("\x1b]0;title\x07[red]text[/red]")
    assert "\x1b]0;" not in out.getvalue() and "\x07" not in out.getvalue()
    assert "\x1b[31mtext" in out.getvalue(), "its own colour"
