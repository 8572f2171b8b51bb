"""What a run shows is written beside it: it names the form that runs it again, and a server that is away stops nothing."""

import json
from contextlib import nullcontext
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

from run_support import reads_of_runs

from alignflow.flows import run_pages
from alignflow.flows.pipeline import Narrator
from alignflow.flows.run_pages import PageWriter, address, progress_line, slug


def test_the_link_opens_the_form_with_the_same_parameters():
    parameters = {"recipe": "/a b/(c)&d.yaml", "settings": {"beta": 0.2, "options": {"x": "]"}}, "more": ["a=b"]}
    link = address("1-2", parameters)
    assert not set(link) & set(" ()[]<>&\"'"), "it can stand in Markdown as it is"
    parts = urlsplit(link)
    assert (
        parts.path == "/v2/deployments/deployment/1-2/run"
        and json.loads(parse_qs(parts.query)["parameters"][0]) == parameters
    )


def test_a_line_of_progress():
    state = {
        "done": 12,
        "total": 60,
        "unit": "steps",
        "left_s": 35.4,
        "figures": {"loss": 0.693147, "tokens_per_s": 1234.5},
    }
    assert progress_line("align", state) == "align: 12/60 steps, loss 0.6931, 1,234 tokens/s, 35 s left"
    assert progress_line("init", {"done": 0, "total": 2, "unit": "parts"}) == "init: 0/2 parts"


def test_keys_are_what_the_server_takes():
    assert slug("My_recipe.v2") == "my-recipe-v2" and slug("--") == "run"


def test_a_writer_goes_on_after_a_failure_and_tells_it_once(monkeypatch):
    monkeypatch.setattr(run_pages, "get_client", lambda sync_client: nullcontext())
    told, done = [], []
    writer = PageWriter(told.append)

    def fail(client):
        raise ConnectionError("the server is away")

    for work in (fail, lambda client: done.append(1), fail, lambda client: done.append(2)):
        writer.later(work)
    writer.close(60)
    assert done == [1, 2] and told == ["pages of this run could not be written: ConnectionError: the server is away"]


def test_the_page_and_the_list_of_runs_read_the_store_once(store, monkeypatch):
    written, read = [], reads_of_runs(monkeypatch)
    story = SimpleNamespace(_store=store, _write=lambda client, *what: written.append(what))
    run_pages.Story._write_runs(story, None)
    assert read == [store] and written[0][1] == "runs-of-the-store"


def test_several_hearers_hear_the_same():
    heard = []
    hearers = [Narrator(starts=lambda call, why, n=n: heard.append((n, call, why))) for n in (1, 2)]
    Narrator.of(*hearers).starts("call", "why")
    assert heard == [(1, "call", "why"), (2, "call", "why")]
