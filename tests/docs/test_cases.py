"""docs/measurements/cases.md says what the files of tests/cases become now."""

import importlib.util

import pytest


@pytest.fixture(scope="module")
def make_cases(repository):
    """docs/make_cases.py as a module: docs/ is no package."""
    spec = importlib.util.spec_from_file_location("make_cases", repository / "docs" / "make_cases.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date(make_cases, capsys):
    assert make_cases.main(["--check"]) == 0, capsys.readouterr().out


def test_the_check_finds_a_missing_and_a_changed_page(make_cases, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(make_cases, "page", lambda: "the page\n")
    assert make_cases.main(["--check"], tmp_path) == 1, "an empty folder"
    assert make_cases.main([], tmp_path) == 0 and make_cases.main(["--check"], tmp_path) == 0
    capsys.readouterr()
    with open(tmp_path / make_cases.PAGE, "a") as file:
        file.write("by hand\n")
    assert make_cases.main(["--check"], tmp_path) == 1
    assert capsys.readouterr().out == "docs/measurements/cases.md is out of date: run `make tables`\n"


def test_every_file_of_the_cases_has_a_line(make_cases, repository):
    shown = {case.file.split("/")[0] for cases in make_cases.SECTIONS.values() for case in cases}
    assert shown | {"two_licences"} == {path.name for path in (repository / make_cases.CASES).iterdir()}


def test_the_page_names_no_place_on_this_machine(make_cases, repository):
    assert str(repository) not in (repository / "docs" / make_cases.PAGE).read_text(encoding="utf-8")


def test_a_row_stands_in_one_line_with_what_its_turns_have_beside_their_text(make_cases):
    messages = [{"role": "user", "content": "a\nb"}, {"role": "assistant", "content": "`c`", "weight": 0}]
    assert make_cases.code(make_cases.shown_row({"messages": messages})) == "`user: a⏎b / assistant: 'c' (weight 0)`"
    pair = {
        "prompt": messages[:1],
        "chosen": [{"role": "assistant", "content": "d"}],
        "rejected": None,
        "label": True,
        "score_chosen": None,
    }
    assert make_cases.shown_row(pair) == "user: a\nb / chosen: d (label true)"


def test_a_long_row_is_cut(make_cases):
    assert make_cases.code("a" * 200) == f"`{'a' * (make_cases.LONGEST - 3)}...`"
