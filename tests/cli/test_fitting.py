"""Tables that fit the terminal."""

from rich.table import Table

from alignflow.cli.fitting import fits, short_time, tight, wide_console
from alignflow.cli.terminal import Console


def test_a_table_fits_where_each_row_is_one_line():
    table = Table("name", box=None)
    table.add_row("x" * 30)
    assert fits(table, Console(width=40)) and not fits(table, Console(width=20))


def test_into_a_pipe_a_row_is_one_line_unless_somebody_said_how_wide_that_is(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert wide_console(Console(width=80, force_terminal=False)).width > 10_000
    assert wide_console(Console(width=80, force_terminal=True)).width == 80
    monkeypatch.setenv("COLUMNS", "70")
    assert wide_console(Console(force_terminal=False)).width == 70


def test_what_is_long_goes_on_below_and_nothing_is_cut():
    table = tight(Table("key", "text"), kept=("key",))
    table.add_row("k" * 10, "t" * 40)
    console = Console(width=30)
    with console.capture() as captured:
        console.print(table)
    shown = captured.get()
    assert "k" * 10 in shown and shown.replace("text", "").count("t") == 40 and "…" not in shown


def test_times_are_short():
    assert short_time("2026-11-30T06:24:48.1") == "11-30 06:24"
    assert short_time("2026-11-30T06:24:48.1", year=True) == "2026-11-30 06:24"
