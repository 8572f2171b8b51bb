"""A sweep on the server's page: one table and one page, written again after each member; a member that fails raises what stopped it."""

import json
import logging
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from alignflow.flows import run_pages, sweep_pages
from alignflow.flows.sweep import Result
from alignflow.flows.sweep_pages import SweepPages


class Client:
    """A server's client that keeps what it is told."""

    def __init__(self):
        self.made, self.data, self.updates = [], {}, 0

    def create_artifact(self, artifact):
        self.made.append(artifact)
        self.data[artifact.key] = artifact.data
        return SimpleNamespace(id=artifact.key)

    def update_artifact(self, key, artifact):
        self.data[key] = artifact.data
        self.updates += 1


@pytest.fixture
def client(monkeypatch):
    """The client of a server, inside a flow."""
    client = Client()
    run = SimpleNamespace(flow_run=SimpleNamespace(id="01234567-0123-4567-89ab-0123456789ab"))
    monkeypatch.setattr(run_pages, "get_client", lambda sync_client: nullcontext(client))
    monkeypatch.setattr(sweep_pages, "FlowRunContext", SimpleNamespace(get=lambda: run))
    monkeypatch.setattr(sweep_pages, "get_run_logger", lambda: logging.getLogger("sweep"))
    return client


def test_table_and_page_are_made_once_and_grow_with_each_member(client, caplog):
    caplog.set_level(logging.INFO)
    with SweepPages("My run", 3) as pages:
        pages.done(SimpleNamespace(name="kto 1e-05"), Result("kto", "unpaired", 1e-5, metrics={"kl": 2.0}))
        pages.done(SimpleNamespace(name="dpo 1e-05"), Result("dpo", "pairs", 1e-5, not_learnt="the loss did not fall"))
        pages.done(SimpleNamespace(name="ipo 1e-05"), Result("ipo", "pairs", 1e-5, error="the loss is nan"))
    assert [(made.key, made.type) for made in client.made] == [
        ("my-run-sweep-table", "table"),
        ("my-run-sweep", "markdown"),
    ]
    assert client.updates == 4, "two more members, two artifacts"
    rows = json.loads(client.data["my-run-sweep-table"])
    assert [row["method"] for row in rows] == ["dpo", "ipo", "kto"] and rows[2]["KL"] == "2"
    assert "3 of 3 members ended, 1 of them without a result" in client.data["my-run-sweep"]
    assert "dpo 1e-05 may not have learnt: the loss did not fall" in caplog.text
    assert "ipo 1e-05  3 of 3  failed: the loss is nan" in caplog.text


def test_a_server_that_is_away_stops_no_sweep(client, caplog):
    client.create_artifact = lambda artifact: (_ for _ in ()).throw(ConnectionError("away"))
    with SweepPages("mine", 1) as pages:
        pages.done(SimpleNamespace(name="dpo"), Result("dpo", "pairs", 1e-5))
    assert "pages of this run could not be written: ConnectionError: away" in caplog.text
