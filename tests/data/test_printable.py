"""Text of data, models and recipes where a person reads it: it can neither steer nor reorder what is shown."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignflow.cli.terminal import Console
from alignflow.data.printable import printable
from alignflow.data.report.body import render
from alignflow.data.report.markdown import escaped, fenced
from alignflow.data.report.plots import bars_plot, interval_plot

STEERING = "\x1b\x00\x07\x08\x7f\x9b\u202e\u2066\u200f\u061c\u2028\ufeff\ud800\U000e0041"
HOSTILE = st.lists(
    st.sampled_from(
        [
            *STEERING,
            "\x1b[2J",
            "\x1b]8;;http://evil\x07",
            "\r",
            "\n",
            "[red]",
            "[/]",
            "[link=http://evil]",
            "<script>",
            "<img src=x onerror=y>",
            "](http://evil)",
            "![](http://evil)",
            "```",
            "~~~",
            "|",
            "$\\frac{",
            "{{ 7*7 }}",
            "&lt;",
            "\\",
            "a",
        ]
    )
    | st.text(max_size=5)
).map("".join)


def steers(text):
    return any(character in STEERING for character in text)


@settings(deadline=None)
@given(HOSTILE)
def test_nothing_that_steers_is_left_and_a_second_time_changes_nothing(text):
    shown = printable(text)
    assert not steers(shown) and printable(shown) == shown
    shown.encode("utf-8")


@given(st.text(st.characters(categories=("L", "N", "P", "S", "Zs", "M"), exclude_characters="\ufffb")))
def test_what_people_write_stays_as_it_is(text):
    assert printable(text) == text and printable("👩‍👩‍👧\ttab\nline") == "👩‍👩‍👧\ttab\nline"


@settings(deadline=None)
@given(HOSTILE)
def test_the_terminal_shows_what_would_steer_it(text):
    from rich.markup import escape
    from rich.table import Table

    for printed in (escape(text), table_of(Table, escape(text))):
        output = io.StringIO()
        Console(file=output, width=200).print(printed)
        assert not steers(output.getvalue())


def table_of(kind, cell):
    table = kind("one")
    table.add_row(cell)
    return table


def test_our_own_colours_stay():
    output = io.StringIO()
    Console(file=output, force_terminal=True, color_system="standard").print("[red]bad[/red] \x1b[2J", highlight=False)
    assert "\x1b[31mbad" in output.getvalue() and "\\x1b[2J" in output.getvalue() and "\x1b[2J" not in output.getvalue()


@settings(deadline=None)
@given(HOSTILE)
def test_markdown_of_a_text_is_one_line_without_markup(text):
    line = escaped(text)
    assert "\n" not in line and not steers(line)  # that nothing of it becomes markup: test_markdown.py
    body = fenced(text)
    assert (
        not steers(body) and body.count("\n" + body.partition("text")[0]) == 1
    )  # nothing but its end closes the fence


@settings(deadline=None)
@given(HOSTILE)
def test_the_page_shows_a_text_and_nothing_of_it_is_html(text):
    facts = {"stages": {}, "licences": {text: text}, "data": None, "labels": None, "evaluation": None, "samples": None}
    page = render(text, {}, facts)
    assert not steers(page) and "<script>" not in page and "<img src=x" not in page


@pytest.mark.parametrize("name", ["$\\frac{$", "a$b$c", "\x1b[2J", "\u202e"])
def test_a_plot_draws_a_name_as_it_is(name):
    assert bars_plot("t", {name: 1.0}, "l") and interval_plot("t", {name: (0.5, 0.4, 0.6)})
