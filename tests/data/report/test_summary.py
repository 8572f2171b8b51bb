"""The page of a stage says what ran, from what, with what result; tables hold samples and figures."""

import json

import pytest
from flow_support import publish
from markdown_it import MarkdownIt

from alignflow.data.configs.loading import load_recipe
from alignflow.data.gates import GateRecord
from alignflow.data.records import write_table
from alignflow.data.report.summary import LARGEST_PLOT, Circumstances, flat_rows, overview, page_key, stage_page, tables
from alignflow.flows.calls import Caller

HOSTILE = "![x](http://evil.example/x.png)\n```\n<img src=http://evil.example/y>"


@pytest.fixture
def init(store, repository):
    caller = Caller(load_recipe(repository / "recipes" / "tiny.yaml"), store)
    return publish(store, caller.call(caller.nodes[0], {}), warnings=[HOSTILE], metrics={"parameters": 12345.0})


def images_and_links(markdown):
    parsed = MarkdownIt("commonmark").enable("table").parse(markdown)
    inline = [token for outer in parsed for token in outer.children or ()]
    assert not any(token.type.startswith("html") for token in (*parsed, *inline))
    return [
        token.attrs.get("src") or token.attrs.get("href") for token in inline if token.type in ("image", "link_open")
    ]


def test_the_page_of_a_stage(init, store):
    again = "/v2/deployments/deployment/1/run?parameters=%7B%7D"
    page = stage_page(
        "init", init, store.payload(init.ref()), Circumstances("tiny", "first time", 2.0, ["a note"], again)
    )
    for text in (
        init.key,
        init.digest[:16],
        "12,345",
        "first time",
        "1.5 s on cpu fp32",
        f"[Run init again with these parameters]({again})",
    ):
        assert text in page, text
    assert images_and_links(page) == [again], "the warning is text"


def test_inputs_are_links_to_their_pages(init, store):
    taken = init.model_copy(update={"inputs": {"policy": init.ref("tokenizer")}})
    page = stage_page(
        "init", taken, store.payload(init.ref()), Circumstances(pages={init.key: "/v2/artifacts/artifact/1"})
    )
    assert images_and_links(page) == ["/v2/artifacts/artifact/1"] and f"`{page_key(init.key)}`" in page
    assert images_and_links(stage_page("init", taken, store.payload(init.ref()), Circumstances())) == [], (
        "one that has a page"
    )


def test_an_input_says_why_it_was_taken(init, store):
    taken = init.model_copy(update={"inputs": {"policy": init.ref("tokenizer")}})
    notes = ["sft: sft-1, as the recipe says", f"init: {init.key}, named for policy"]
    assert "| named for policy |" in stage_page("init", taken, store.payload(init.ref()), Circumstances(notes=notes))


def test_settings_are_what_was_set_and_what_was_left(init, store):
    page = stage_page("init", init, store.payload(init.ref()), Circumstances())
    set_here, left = page.split("## Settings")[1].split("As by default: ")
    assert "seed `0`" in left and "seed" not in set_here
    assert "{" not in set_here, "no JSON where a table will do"


def test_what_models_said_is_shown_as_text(tmp_path):
    prompt = [{"role": "user", "content": HOSTILE}]
    row = {
        "id": "1",
        "source": "s",
        "prompt": prompt,
        "completions": [HOSTILE, "plain"],
        "ended": [True, True],
        "tokens": [1, 1],
    }
    write_table([row] * 9, "completions", tmp_path / "completions" / "train.parquet")
    found = tables("sample", tmp_path)["samples"]
    first = [("prompt", HOSTILE), ("answer 1", HOSTILE), ("answer 2", "plain")]
    assert found[:3] == [{"sample": 1, "what": who, "text": text} for who, text in first] and found[-1]["sample"] == 5


def test_samples_of_an_evaluation_and_its_figures(tmp_path):
    (tmp_path / "evaluation.json").write_text(
        json.dumps({"win_rate": {"r": {"win_rate": 0.6, "low": 0.5, "high": 0.7}}, "prompts": 12})
    )
    (tmp_path / "samples.json").write_text(
        json.dumps([{"prompt": [{"role": "user", "content": "q"}], "aligned": "a" * 3000, "sft": "b"}])
    )
    found = tables("evaluate", tmp_path)
    assert found["evaluation"] == [
        {"figure": "win_rate/r", "value": "0.6", "from": "0.5", "to": "0.7"},
        {"figure": "prompts", "value": "12", "from": "", "to": ""},
    ]
    assert found["samples"][1]["what"] == "aligned" and found["samples"][1]["text"].endswith("[cut: 3000 characters]")


def test_plots_are_images_within_the_page_and_small(tmp_path, init, store):
    side = store.directory(init.key) / "side"
    (side / "curves.jsonl").write_text(
        "".join(json.dumps({"step": step, "loss": 1 / step}) + "\n" for step in range(1, 50))
    )
    page = stage_page("sft", init, store.payload(init.ref()), Circumstances())
    (image,) = images_and_links(page)
    assert image.startswith("data:image/png;base64,") and len(image) < LARGEST_PLOT


def test_a_stage_without_any_of_it_still_has_a_page(tmp_path, init):
    assert tables("init", tmp_path) == {} and "# init" in stage_page("init", init, tmp_path, Circumstances())
    assert tables("sample", tmp_path) == {}


def test_lists_are_left_out_of_figures():
    assert [row["figure"] for row in flat_rows({"a": {"b": 1, "histogram": {"counts": [1, 2]}}, "c": None})] == [
        "a/b",
        "c",
    ]
    assert [row["figure"] for row in flat_rows({"nll": {"nll/change": 1}})] == ["nll/change"], "no name is said twice"


def test_the_page_of_a_run_has_a_line_per_stage():
    line = {"name": "sft", "ran": False, "seconds": 0.1, "key": "sft-1", "metrics": ["loss 1.2"]}
    page = overview(
        "tiny",
        [line],
        {"Run this again": "/v2/x"},
        [HOSTILE, "init: init-1, as the recipe says"],
        pages={"sft-1": "/v2/y"},
    )
    assert "| [`sft-1`](/v2/y) | cached | 0.1 | loss 1\\.2 |" in page and "as the recipe says" not in page
    assert images_and_links(page) == ["/v2/x", "/v2/y"]


def test_the_page_of_a_run_has_the_verdicts_of_its_gates():
    said = {
        "gate": "reward.eval_accuracy",
        "stage": "reward",
        "metric": "eval_accuracy",
        "key": "reward-1",
        "digest": "d",
        "value": 0.5,
    }
    record = GateRecord(**said, minimum=0.6, maximum=None, action="ask", verdict="approved", who="Ann", comment=HOSTILE)
    page = overview("tiny", [], {}, gates=[record])
    assert (
        "| reward\\.eval\\_accuracy | 0.5 | at least 0.6 | **approved** by Ann |" in page
        and images_and_links(page) == []
    )
    assert "Gates" not in overview("tiny", [], {})
