"""The dashboard's page: what stands on the leaderboard, what is escaped, and that nothing is loaded from elsewhere."""

import re

import pytest

from alignflow.data.report.dashboard import bar, dashboard_page, leaderboards

EVIL = '<script src="https://evil.example/x.js"></script>'


def run(name="mine", rate=0.6, judge="helpful", **fields):
    texts = dict.fromkeys(
        (
            "date",
            "state",
            "method",
            "settings",
            "win_rate",
            "kl",
            "reward_accuracy",
            "seconds",
            "size",
            "error",
            "report",
        ),
        "",
    )
    ends = {"low": None if rate is None else rate - 0.1, "high": None if rate is None else rate + 0.1}
    return {
        **texts,
        **ends,
        "recipe": name,
        "name": name,
        "rate": rate,
        "judge": judge,
        "smoke": False,
        "evaluated": f"evaluate-{name}",
        **fields,
    }


def names(runs):
    return [(board["judge"], [run["name"] for run in board["runs"]]) for board in leaderboards(runs)]


def test_each_judge_has_a_board_with_the_highest_win_rate_first():
    runs = [run("low", 0.4), run("high", 0.7), run("other", 0.9, "strict")]
    assert names(runs) == [("helpful", ["high", "low"]), ("strict", ["other"])]


@pytest.mark.parametrize("left_out", [{"rate": None}, {"smoke": True}, {"evaluated": "evaluate-mine"}])
def test_a_run_without_a_win_rate_one_in_small_and_a_repeated_one_are_not_on_a_board(left_out):
    assert names([run("mine"), run("other", **left_out)]) == [("helpful", ["mine"])]


def test_the_marks_of_a_bar_stay_inside_it():
    assert bar(0.6, 0.5, 0.75) == {"rate": 60.0, "left": 50.0, "width": 25.0}
    assert bar(1.0, -0.2, 1.4) == {"rate": 100.0, "left": 0.0, "width": 100.0} and bar(0.5, None, None)["width"] is None


def test_what_people_and_models_wrote_is_text():
    newest = {"recipe": EVIL, "date": "", "report": "", "headline": [EVIL], "problem": EVIL}
    page = dashboard_page(EVIL, "now", [run(EVIL, judge=EVIL, settings=EVIL, error=EVIL, state=EVIL)], newest, 0)
    assert "<script" not in page and page.count("&lt;script") >= 8


def test_nothing_is_loaded_from_elsewhere():
    page = dashboard_page("/store", "now", [run(report="artifacts/report-1/side/report.html")], None, 2)
    assert not re.search(r"(src|href)=\"?(https?:)?//|@import|url\(", page)
    assert 'href="artifacts/report-1/side/report.html"' in page and "2 runs have no line of their own" in page


def test_a_store_without_runs_says_how_to_make_one():
    page = dashboard_page("/store", "now", [], None, 0)
    assert "alignflow run RECIPE" in page and "No run has a win rate yet" in page
