"""The dashboard of a store: where it is written, what it links to, and what Prefect's page lists."""

import json

import pytest
from flow_support import publish_all
from run_support import record_run

from alignflow.data.configs.loading import load_recipe
from alignflow.data.errors import StageError, UserError
from alignflow.tasks.store.dashboard import MOST_LISTED, dashboard, renew_dashboard, runs_markdown, write_dashboard

METRICS = {
    "evaluate": {"win_rate/helpful": 0.6, "win_rate/helpful/low": 0.5, "win_rate/helpful/high": 0.7, "kl": 2.345},
    "reward": {"eval_accuracy": 0.75},
}


@pytest.fixture
def made(store, repository):
    """A run with all figures and a report's page, and a later one that failed."""
    found = publish_all(load_recipe(repository / "recipes" / "tiny.yaml"), store, metrics=METRICS)
    (store.directory(found["report"].key) / "side").mkdir(exist_ok=True)
    (store.directory(found["report"].key) / "side" / "report.html").write_text("the report")
    record_run(store, found, "whole", settings={"align.options.beta": 0.3})
    record_run(store, {}, "broken", error=StageError("it broke"))
    return found


def test_the_page_has_both_runs_the_figures_and_the_newest_headline(store, made):
    page = dashboard(store, store.root)
    assert page.index(">broken<") < page.rindex(">whole<"), "newest first"
    for text in ("60% [50, 70]", "2.35", "0.75", "align.options.beta=0.3", "it broke", "75% of held-out"):
        assert text in page


def test_links_are_relative_in_the_store_so_that_it_can_move_and_whole_elsewhere(store, made, tmp_path):
    report = f"artifacts/{made['report'].key}/side/report.html"
    assert f'href="{report}"' in dashboard(store, store.root)
    assert f'href="{(store.root / report).as_uri()}"' in dashboard(store, tmp_path / "elsewhere")


def test_a_report_that_is_gone_is_not_linked(store, made):
    (store.directory(made["report"].key) / "side" / "report.html").unlink()
    assert "<a href" not in dashboard(store, store.root)


def test_a_headline_that_cannot_be_read_is_told(store, made):
    manifest = store.directory(made["evaluate"].key) / "manifest.json"
    manifest.write_text(json.dumps({"kind": "changed"}))
    assert "The headline of this report cannot be read" in dashboard(store, store.root)


def test_it_is_written_to_the_store_or_to_a_file_and_a_file_that_cannot_be_is_told(store, made, tmp_path):
    assert write_dashboard(store) == store.root / "dashboard.html"
    assert "whole" in write_dashboard(store, tmp_path / "mine.html").read_text()
    with pytest.raises(UserError, match="cannot be written"):
        write_dashboard(store, tmp_path / "nowhere" / "mine.html")


def test_prefects_page_lists_the_runs_and_names_the_dashboard(store, made):
    text = runs_markdown(store)
    assert text.index("| broken |") < text.index("| whole |") and "60\\% \\[50\\, 70\\]" in text
    assert f"`{store.root / 'dashboard.html'}`" in text and "older runs" not in text


def test_what_prefects_page_does_not_list_is_counted(store):
    for number in range(MOST_LISTED + 2):
        record_run(store, {}, f"run-{number}", error=StageError("it broke"))
    assert "2 older runs are not listed here" in runs_markdown(store)


def test_a_store_without_runs_has_a_page_too(store):
    assert "There are no runs yet." in runs_markdown(store) and "alignflow run RECIPE" in dashboard(store, store.root)


def test_only_a_page_that_is_there_is_written_again(store, made):
    assert renew_dashboard(store) is None and not (store.root / "dashboard.html").exists()
    page = write_dashboard(store)
    page.write_text("old")
    assert renew_dashboard(store) == page and "whole" in page.read_text()
