"""`alignflow push` against a stand-in of the Hub: what is sent, that it is asked first, and that the token is told to nobody else."""

import os
import subprocess
import sys

import pytest
from hub_support import stand_in
from tests_support import as_artifact

from alignflow.data.records import assistant, user, write_table

TOKEN = "hf_secretsecretsecret"
PAIR = {"id": "1", "source": "t", "prompt": user("q"), "chosen": assistant("a"), "rejected": assistant("b")}


@pytest.fixture
def data(store, tmp_path):
    write_table([PAIR], "preferences", tmp_path / "made" / "preferences" / "train.parquet")
    as_artifact(tmp_path / "made", store.root, "label-1", "dataset")
    return "label-1"


@pytest.fixture
def push(tmp_path):
    def run(hub, *arguments, token=TOKEN, said="", **more):
        settings = {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_OFFLINE": "0",
            "COLUMNS": "200",
            **more,
        }
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")} | settings
        if token:
            environment["HF_TOKEN"] = token
        command = [sys.executable, "-m", "alignflow", "push", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, input=said, env=environment, timeout=120)
        assert not token or token not in done.stdout + done.stderr
        return done

    return run


@pytest.mark.parametrize("xet", ["0", "1"])
def test_a_data_set_is_sent_with_its_card_to_a_repository_that_is_made(xet, data, push):
    with stand_in(TOKEN) as hub:
        done = push(hub, data, "me/data", "--private", "--yes", HF_HUB_DISABLE_XET=xet)
        assert done.returncode == 0, done.stderr
        assert set(hub.files) == {"README.md", "data/train-00000-of-00001.parquet"}
        assert hub.files["data/train-00000-of-00001.parquet"].startswith(b"PAR1")
        asked = hub.repositories["me/data"]
        assert asked["type"] == "dataset" and "private" in (
            asked.get("visibility"),
            *(["private"] if asked.get("private") else []),
        )
        assert "to the dataset me/data" in done.stdout and "sent: " in done.stdout


def test_large_files_are_sent_apart(data, push):
    with stand_in(TOKEN, large=(".parquet",)) as hub:
        done = push(hub, data, "me/data", "--yes", HF_HUB_DISABLE_XET="1")
        assert done.returncode == 0 and hub.files["data/train-00000-of-00001.parquet"].startswith(b"PAR1"), done.stderr


def test_a_model_goes_to_a_repository_of_models(store, tmp_path, push):
    (tmp_path / "model").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "model" / name).write_text(name)
    as_artifact(tmp_path / "model", store.root, "align-123")
    with stand_in(TOKEN) as hub:
        done = push(hub, "align-123", "me/model", "--yes")
        assert done.returncode == 0 and set(hub.files) == {"README.md", "config.json", "model.safetensors"}, done.stderr
        assert hub.repositories["me/model"].get("type", "model") == "model"


def test_nothing_is_sent_without_a_yes_or_in_a_dry_run(data, push):
    with stand_in(TOKEN) as hub:
        for arguments, said in (((), "n\n"), (("--dry-run",), ""), (("--dry-run", "--yes"), "")):
            done = push(hub, data, "me/data", *arguments, said=said)
            assert done.returncode == 0 and "nothing was sent" in done.stdout, done.stderr
            assert "data/train-00000-of-00001.parquet" in done.stdout and hub.url in done.stdout
        assert push(hub, data, "me/data").returncode != 0, "nobody is there to say yes"
        assert hub.paths == [] and hub.files == {}


def test_a_dry_run_needs_no_token_and_sending_does(data, push):
    with stand_in(TOKEN) as hub:
        assert push(hub, data, "me/data", "--dry-run", token="").returncode == 0
        done = push(hub, data, "me/data", "--yes", token="")
        assert done.returncode == 2 and "no Hub token" in done.stderr and hub.paths == []


def test_a_token_that_the_hub_refuses_is_not_shown(data, push):
    with stand_in("hf_another") as hub:
        done = push(hub, data, "me/data", "--yes")
        assert done.returncode == 1 and "the Hub refused the upload (401" in done.stderr and "HF_TOKEN" in done.stderr


def test_an_endpoint_that_is_not_there_is_told_in_a_sentence(data, push):
    with stand_in(TOKEN) as hub:
        pass  # its port is closed now
    done = push(hub, data, "me/data", "--yes")
    assert done.returncode == 1 and "the upload failed" in done.stderr and "HF_ENDPOINT" in done.stderr


@pytest.mark.parametrize("name", ["a/b/c", "../x", "a b"])
def test_a_name_that_is_none_is_refused_at_once(name, data, push):
    with stand_in(TOKEN) as hub:
        done = push(hub, data, name, "--yes")
        assert done.returncode == 2 and "is not a valid repository name" in done.stderr and hub.paths == []
