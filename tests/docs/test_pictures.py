"""Pictures of the docs are small, are there, and load nothing from elsewhere."""

import re

import pytest

LARGEST = 150_000


@pytest.fixture(scope="module")
def named(repository):
    """The pictures that docs/pictures.md shows."""
    page = (repository / "docs" / "pictures.md").read_text(encoding="utf-8")
    return [repository / "docs" / name for name in re.findall(r"\]\((images/[^)]+)\)", page)]


def test_the_page_shows_report_dashboard_comparison_and_runs_wide_narrow_and_dark(named):
    assert {file.name for file in named} == {
        *(f"{page}{look}.png" for page in ("report", "dashboard", "compare") for look in ("", "-dark", "-narrow")),
        "report-sample.png",
        "report-lineage.png",
        "runs.svg",
        "runs-narrow.svg",
    }


def test_each_is_there_and_small(named):
    assert {file.name: 0 < file.stat().st_size <= LARGEST for file in named} == {file.name: True for file in named}


def test_a_drawn_terminal_loads_no_font_and_no_picture(named):
    for file in named:
        if file.suffix == ".svg":
            text = file.read_text(encoding="utf-8")
            assert set(re.findall(r"https?://[^\s\"')]+", text)) <= {
                "http://www.w3.org/2000/svg",
                "https://www.textualize.io",
            }
            assert "@font-face" not in text and "<image" not in text
