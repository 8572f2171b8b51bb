"""A data set of the store in the layout of the Hub: `datasets` loads it, all of it or nothing is written, damage is found."""

import json

import datasets
import pytest
import yaml
from tests_support import as_artifact

from alignflow.data.dataset_export import export_dataset
from alignflow.data.errors import DamagedArtifactError, DataError, UserError
from alignflow.data.records import assistant, user, write_table

PAIR = {
    "id": "1",
    "source": "t",
    "prompt": user("q"),
    "chosen": assistant("a"),
    "rejected": assistant("b"),
    "judge": "human:anna",
    "weight": 2.0,
}
GOOD = {"id": "2", "source": "t", "prompt": user("q"), "completion": assistant("a"), "label": True}


def labelled(store, path, unpaired=()):
    write_table([PAIR, PAIR], "preferences", path / "preferences" / "train.parquet")
    write_table([PAIR], "preferences", path / "preferences" / "heldout.parquet")
    write_table(list(unpaired), "unpaired", path / "unpaired" / "train.parquet")
    (path / "statistics.json").write_text("{}")
    (path / "README.md").write_text("---\n---\n# Preference data\n\n- judge: llm\n- licence of x: MIT\n")
    payload = as_artifact(path, store.root, "label-1", "dataset")
    return store.manifest("label-1"), payload


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def test_one_table_lies_in_data_and_is_loaded_whole(store, tmp_path):
    lines = export_dataset(*labelled(store, tmp_path / "made"), tmp_path / "out")
    assert lines == ["data/train-00000-of-00001.parquet: 2 rows", "data/test-00000-of-00001.parquet: 1 rows"]
    found = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert {name: len(split) for name, split in found.items()} == {"train": 2, "test": 1}
    assert found["train"][0]["judge"] == "human:anna" and found["train"][0]["weight"] == 2.0
    assert found["train"][0]["chosen"] == assistant("a")


def test_several_tables_are_configurations_of_their_own(store, tmp_path):
    export_dataset(*labelled(store, tmp_path / "made", [GOOD]), tmp_path / "out")
    cache = str(tmp_path / "cache")
    assert datasets.get_dataset_config_names(str(tmp_path / "out")) == ["preferences", "unpaired"]
    assert datasets.load_dataset(str(tmp_path / "out"), "unpaired", cache_dir=cache)["train"][0]["label"] is True
    assert len(datasets.load_dataset(str(tmp_path / "out"), cache_dir=cache)["train"]) == 2, "pairs are the default"


def test_the_card_keeps_what_the_step_said_and_names_the_artifact(store, tmp_path):
    export_dataset(*labelled(store, tmp_path / "made"), tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    assert "# Preference data" in text and "- judge: llm" in text and "- artifact: label-1" in text
    assert yaml.safe_load(text.split("---\n")[1])["license"] == "unknown", "the manifest decides, and it knows none"


def test_nothing_is_written_where_something_is_there_or_something_is_damaged(store, tmp_path):
    manifest, payload = labelled(store, tmp_path / "made")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    with pytest.raises(UserError, match="not an empty directory"):
        export_dataset(manifest, payload, tmp_path / "full")
    write_table([PAIR], "preferences", payload / "preferences" / "train.parquet")
    with pytest.raises(DamagedArtifactError, match=r"preferences/train\.parquet"):
        export_dataset(manifest, payload, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


def test_data_without_rows_is_refused(store, tmp_path):
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "x.json").write_text(json.dumps({}))
    payload = as_artifact(tmp_path / "made", store.root, "split-1", "dataset")
    with pytest.raises(DataError, match="no table with rows"):
        export_dataset(store.manifest("split-1"), payload, tmp_path / "out")
