"""The judge report for people."""

from alignflow.data.judging.calibration import fitted_calibration
from alignflow.data.judging.outcomes import Outcome
from alignflow.data.judging.report import judge_report
from alignflow.data.report.judge_page import fit_lines, judge_markdown, judge_page, judge_plots, judge_rows

HOSTILE = "<img src=http://evil.example/x>[link](http://evil.example)"
OUTCOMES = [Outcome(str(place), 0.9, (0.9, 0.9), gold=float(place % 4 > 0), lengths=(9, 5)) for place in range(120)]


def test_every_measured_figure_is_a_row_with_its_interval_and_what_was_not_measured_has_none():
    rows = {row["figure"]: row for row in judge_rows(judge_report(OUTCOMES, "llm"))}
    accuracy = rows["agreement with people (ties of the judge count one half)"]
    assert (accuracy["value"], accuracy["of"]) == ("0.750", "120") and accuracy["from"] < "0.750" < accuracy["to"]
    assert "expected calibration error" in rows and "probability on the judge's options" not in rows


def test_the_page_loads_nothing_and_escapes_what_is_not_ours():
    report = judge_report(OUTCOMES, HOSTILE, more={"data": {"source": HOSTILE, "dropped": {HOSTILE: 1}}})
    page = judge_page([report], {"seconds": 1.5, "usage": None})
    assert (
        "<img src=http" not in page
        and 'src="http' not in page
        and page.count("data:image/png") == len(judge_plots(report))
    )
    assert report["conclusion"]["text"].replace("'", "&#39;") in page and "seconds" in page and "usage" not in page


def test_markdown_has_the_verdict_first_and_no_links():
    text = judge_markdown(judge_report(OUTCOMES, HOSTILE))
    assert text.index("can be used") < text.index("| figure") and "](http" not in text


def test_several_judges_share_a_page_with_a_table_of_verdicts():
    page = judge_page([judge_report(OUTCOMES, name) for name in ("one", "two")], {})
    assert page.count('class="verdict usable"') == 2 and "<tr><td>one</td>" in page


def test_what_became_of_the_calibration_is_said():
    report = judge_report(OUTCOMES, "llm", more={"fitted": fitted_calibration(OUTCOMES, False)})
    assert "human labels" in fit_lines(report)[0] and fit_lines(judge_report(OUTCOMES, "llm")) == []
