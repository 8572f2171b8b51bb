"""An iterated recipe of three rounds from the server's pages: a person sees the rounds, and runs the second one's labelling again alone."""

import re

import pytest
from browser_support import chromium, field, logged_in, open_form, submit
from server_support import Server, give_history
from system_support import REPOSITORY

ITERATIVE = str(REPOSITORY / "recipes" / "iterative.yaml")
BEFORE = ("init", "prepare", "sft", "sample.1", "label.1", "reference.1", "align.1", "sample.2")
CHANGED = ("label.2", "reference.2", "align.2", "sample.3", "label.3", "reference.3", "align.3")
RUNS_S = 900
SHORT = """
name: short
description: The shorter answer.
principles:
  - {name: short, kind: length_window, weight: 1, options: {minimum: 1, maximum: 20, unit: words}}
  - {name: finished, kind: ends_properly, weight: 1}
  - {name: friendly, kind: sentiment, weight: 3, options: {direction: positive}}
"""

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def server(tmp_path_factory, history):
    made = Server(tmp_path_factory.mktemp("rounds"))
    made.home.store.mkdir(parents=True, exist_ok=True)
    give_history(made.home.store, history)
    try:
        made("up", "--port", made.port)
        made.login = re.search(r"alignflow:\S+", made("status", "--login")).group()
        yield made
    finally:
        made("down")


@pytest.fixture(scope="module")
def visitor(server):
    with chromium() as browser:
        yield logged_in(browser, server)


def steps_of(page, run):
    """The steps of a run as its page lists them: step -> whether the page calls it cached."""
    page.goto(f"/v2/runs/flow-run/{run}")
    page.get_by_role("tab", name="Task Runs").click()
    page.get_by_text(re.compile(r"\d+ (Completed|Cached)")).first.wait_for()
    found = {}
    while True:
        for text in page.get_by_role("link", name=re.compile(r"^[a-z_]+(\.\d)? \w+( cached)?$")).all_inner_texts():
            found[text.split()[0]] = text.endswith("cached")
        following = page.get_by_role("button", name="Go to next page")
        if not following.count() or following.first.is_disabled():
            return found
        following.first.click()


def test_the_rounds_are_seen_and_the_second_ones_labels_are_made_again_alone_by_another_judge(
    server, visitor, tmp_path
):
    page, constitution = visitor.page, tmp_path / "short.yaml"
    constitution.write_text(SHORT)
    open_form(visitor, "pipeline")
    field(page, "recipe").fill(ITERATIVE)
    first = submit(page)
    assert server.ended(first, RUNS_S)["type"] == "COMPLETED"
    seen = steps_of(page, first)
    assert not any(seen[name] for name in (*BEFORE, *CHANGED)), seen
    visitor.picture("rounds", 1200)

    open_form(visitor, "label")
    field(page, "recipe").fill(ITERATIVE)
    field(page, "round").fill("2")
    page.get_by_role("button", name="Add item").click()
    page.get_by_text("No items in this list").wait_for(state="detached")
    page.locator("textarea").nth(1).fill(f"label.judge.options.constitution={constitution}")
    field(page, "then").click()
    page.get_by_role("option", name="and the stages after it", exact=True).click()
    second = submit(page)
    ended = server.ended(second, RUNS_S)
    assert ended["type"] == "COMPLETED", ended["message"]
    seen = steps_of(page, second)
    assert {name for name in BEFORE if seen[name]} == set(BEFORE), seen
    assert not any(seen[name] for name in CHANGED), seen
