"""Lineage, verify and gc on a real store, through the command line."""

import os
import sys

import pytest
from cli_support import alignflow
from flow_support import publish_all
from run_support import record_run
from typer.testing import CliRunner

from alignflow.cli.app import app
from alignflow.data.configs.loading import load_recipe
from alignflow.data.errors import UserError
from alignflow.data.sharing import Sharing
from alignflow.server import processes
from alignflow.server.layout import Home


def test_list_lineage_verify_and_gc(made, store):
    listed = alignflow("list")
    assert made["init"].key[:20] in listed.stdout and made["prepare"].key[:20] in listed.stdout
    tree = alignflow("lineage", made["prepare"].key[:14]).stdout
    assert "tokenizer: init-" in tree
    assert "2 artifacts are intact" in alignflow("verify").stdout

    asked = alignflow("gc", "--keep-last", "0", text="n\n")
    assert asked.returncode == 1 and store.find(made["init"].key), "gc asks first"
    assert alignflow("gc", "--keep", made["init"].key, "--keep-last", "0", "--yes").returncode == 0
    assert store.find(made["init"].key) and not store.find(made["prepare"].key)

    weights = store.payload(made["init"]) / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    damaged = alignflow("verify")
    assert (
        damaged.returncode == 1
        and "0 artifacts are intact" in damaged.stdout
        and "1 artifact is damaged:" in damaged.stderr
    )
    assert f"{made['init'].key}: model.safetensors changed on disk; set aside" in damaged.stderr
    assert "run the recipe again" in damaged.stderr
    assert not store.directory(made["init"].key).exists() and len(list((store.root / "quarantine").iterdir())) == 1


@pytest.mark.parametrize("columns", [200, 80])
def test_a_list_shows_key_date_run_method_metric_and_size(store, repository, monkeypatch, columns):
    metrics = {"align": {"loss": 0.75}}
    made = publish_all(load_recipe(repository / "recipes" / "tiny.yaml"), store, metrics=metrics)
    record_run(store, {"align": made["align"]}, "my-run")
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = CliRunner().invoke(app, ["list"]).output.splitlines()
    assert all(len(line) <= columns and "…" not in line for line in lines)
    (line,) = (line for line in lines if line.startswith(made["align"].key[:24]))
    assert "my-run" in line and "dpo" in line and " kB" in line and "01-01 00:00" in line
    assert "loss 0.75" in line
    (line,) = (line for line in lines if line.startswith(made["sft"].key[:24]))
    assert line.count("–") >= 2, "no run is known, and the stage has no method"
    assert len(CliRunner().invoke(app, ["list", "align"]).output.splitlines()) == 2


def test_a_store_with_a_server_is_not_shared_and_its_history_stays_with_the_host(store, tmp_path):
    home = Home(store.root)
    home.make()
    (home.prefect / "prefect.db").write_text("history")
    server = processes.start(
        home, "server", [sys.executable, "-c", "import time; time.sleep(60)"], dict(os.environ), tmp_path
    )
    refused = CliRunner().invoke(app, ["share-store"])
    assert (
        isinstance(refused.exception, UserError)
        and "`alignflow down` first" in str(refused.exception)
        and not store.sharing
    )
    processes.stop(server, 5)
    assert CliRunner().invoke(app, ["share-store", "--yes"]).exit_code == 0
    assert home.prefect.name != "home" and (home.prefect / "prefect.db").read_text() == "history"


def test_a_store_is_shared_once_and_says_so(store):
    refused = CliRunner().invoke(app, ["share-store"], input="n\n")
    assert refused.exit_code == 1 and "stays shared from now on" in refused.output and not store.sharing
    first, second = (CliRunner().invoke(app, ["share-store", "--expiry-s", "30"], input="y\n") for _ in range(2))
    assert first.exit_code == second.exit_code == 0
    assert "may be used by several machines" in first.output and "shared already" in second.output
    assert store.sharing == Sharing(beat_s=5, expiry_s=30)
