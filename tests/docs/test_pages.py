"""Every page of the docs can be found from docs/index.md and the site, and the pages that people read first stay short."""

import re

import pytest
import yaml

FILE = re.compile(
    r"`((?:tests|alignflow|benchmarks|docs|recipes|examples|flows|tasks|models|data|server|cli)/[\w./-]*\w\.\w+)`"
)
LINK = re.compile(r"\]\(([^)#\s]+)")
MOST_WORDS = {
    "README.md": 1000,
    "docs/index.md": 520,
    "docs/tutorial.md": 2000,
    "docs/data.md": 1300,
    "docs/methods.md": 1850,
    "docs/judges.md": 2300,
    "docs/training.md": 3000,
    "docs/results.md": 1600,
    "docs/operate.md": 1500,
    "docs/deploy.md": 1200,
    "docs/security.md": 1350,
    "docs/architecture.md": 3000,
}
"""The reading path: page -> words at most. Raise a limit only when a page cannot say it in fewer words."""


@pytest.fixture(scope="module")
def pages(repository):
    """The pages of docs/, as paths below it."""
    folder = repository / "docs"
    return {str(path.relative_to(folder)) for path in folder.rglob("*.md")}


@pytest.mark.parametrize("page", MOST_WORDS)
def test_the_pages_of_the_reading_path_are_short(repository, page):
    assert len((repository / page).read_text(encoding="utf-8").split()) <= MOST_WORDS[page]


def test_the_index_links_to_every_page(repository, pages):
    linked = LINK.findall((repository / "docs" / "index.md").read_text(encoding="utf-8"))
    assert pages - set(linked) == {"index.md"}


def test_the_readme_links_to_the_index_and_to_most_of_the_reading_path(repository):
    linked = set(LINK.findall((repository / "README.md").read_text(encoding="utf-8")))
    assert set(MOST_WORDS) - linked == {"README.md"}


def test_the_site_has_every_page_once_and_nothing_else(repository, pages):
    site = yaml.safe_load((repository / "mkdocs.yml").read_text(encoding="utf-8"))
    listed = [page for section in site["nav"] for page in leaves(section)]
    assert sorted(listed) == sorted(pages)


def test_the_site_asks_nobody_for_anything(repository):
    site = yaml.safe_load((repository / "mkdocs.yml").read_text(encoding="utf-8"))
    assert site["theme"]["font"] is False and site["plugins"] == ["search"]
    assert not {"extra", "extra_css", "extra_javascript", "repo_url"} & set(site)
    assert "http" not in (repository / "mkdocs.yml").read_text(encoding="utf-8")


def missing_files(text, repository):
    """Files of the repository or of the package that a text names and that are not there; NAME stands for the reader's own."""
    named = [name for name in FILE.findall(text) if "NAME" not in name]
    return [name for name in named if not ((repository / name).exists() or (repository / "alignflow" / name).exists())]


def test_every_file_that_a_page_names_is_there(repository, pages):
    texts = [repository / "README.md", repository / "CONTRIBUTING.md", *(repository / "docs" / page for page in pages)]
    found = {str(path): missing_files(path.read_text(encoding="utf-8"), repository) for path in texts}
    assert not {path: names for path, names in found.items() if names}


def test_a_file_that_is_not_there_is_found(repository):
    text = "See `tests/docs/test_pages.py`, `data/gates.py`, `data/NAME.py` and `tests/nowhere.py`."
    assert missing_files(text, repository) == ["tests/nowhere.py"]


def leaves(entry):
    """The pages of a part of the site's navigation."""
    if isinstance(entry, str):
        return [entry]
    parts = entry.values() if isinstance(entry, dict) else entry
    return [page for part in parts for page in leaves(part)]


def test_the_pages_of_a_nested_navigation_are_found():
    assert leaves({"Read": [{"Tutorial": "tutorial.md"}, {"More": ["data.md"]}]}) == ["tutorial.md", "data.md"]
