"""Plots as SVG inside of a page: colours of the page, texts that are no markup, no ids that clash."""

import re
from xml.etree import ElementTree

from alignflow.data.report.line_plots import COLOURS, TEXT, line_plot


def drawn(names=("a", "b"), number=1):
    points = {name: [(1, 0.5), (2, 0.25)] for name in names}
    return line_plot("align: loss", points, {names[0]: [(2, 0.3)]}, names, number)


def test_text_and_axes_have_the_colour_of_the_page_and_each_run_its_own():
    svg = drawn()
    assert TEXT not in svg and "currentColor" in svg and all(colour in svg for colour in COLOURS[:2])


def test_a_name_keeps_its_colour_where_another_has_no_line():
    svg = line_plot("t", {"b": [(1, 1.0), (2, 2.0)]}, {}, ["a", "b"], 1)
    assert COLOURS[1] in svg and COLOURS[0] not in svg


def test_names_are_text_and_no_markup():
    svg = drawn(("<script>alert(1)</script>", "$x_{$"))
    texts = [node.text for node in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert "<script>" not in svg and "<script>alert(1)</script>" in texts


def test_each_run_is_once_in_the_legend():
    assert drawn().count(">a</text>") == 1


def test_ids_of_two_plots_of_a_page_do_not_clash():
    ids = [set(re.findall(r'\bid="([^"]+)"', drawn(number=number))) for number in (1, 2)]
    assert ids[0] and not ids[0] & ids[1]
