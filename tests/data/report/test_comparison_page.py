"""The page of a comparison: whole, escaped, and never written over another file."""

import pytest
from compared_support import finished_step

from alignflow.data.errors import UserError
from alignflow.data.report.comparison import ComparedRun, Measured, beside
from alignflow.data.report.comparison_page import measured_text, render, write_page


@pytest.fixture
def found(store):
    curves = [{"step": 1, "loss": 0.7, "grad_norm": 1.0}, {"step": 2, "loss": 0.6, "grad_norm": 1.0}]
    steps = [
        finished_step(store.root, "sft", f"sft-{n}", curves=curves, metrics={"loss": 0.1 * n}, config={"name": "<b>x"})
        for n in (1, 2)
    ]
    names = ("first", "<i>second</i>")
    runs = [ComparedRun(name, "sft-1", {"sft": step}) for name, step in zip(names, steps, strict=True)]
    return beside(runs)


def test_the_page_has_table_and_plots_and_loads_nothing(found):
    page = render(found)
    assert page.count("<svg") == 2 and "Curves of sft" in page and "<details><summary>1 more: grad_norm" in page
    assert "0.1" in page and "http://" not in page.replace("http://www.w3.org/", "") and "<script" not in page


def test_names_are_escaped(found):
    page = render(found)
    assert "<i>second" not in page and "&lt;i&gt;second" in page


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        (None, "–"),
        (Measured(value=None, n=3), "–"),
        (Measured(value=0.5), "0.5"),
        (Measured(value=0.5, low=0.4, high=0.6, n=1200), "0.5 [0.4, 0.6] n=1,200"),
    ],
)
def test_a_value_is_told_with_what_is_known_of_it(measured, said):
    assert measured_text(measured) == said


def test_an_earlier_page_is_replaced_and_any_other_file_is_not(found, tmp_path):
    page = tmp_path / "page.html"
    write_page(page, found)
    write_page(page, found)
    page.write_text("mine")
    with pytest.raises(UserError, match="another file has this name"):
        write_page(page, found)
    assert page.read_text() == "mine"


def test_a_place_that_cannot_be_written_is_refused(found, tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        write_page(tmp_path / "nowhere" / "page.html", found)
