"""`alignflow export` through the command line."""

import subprocess
import sys

import pytest
from cli_support import alignflow
from run_support import record_run
from tests_support import as_artifact

from alignflow.cli.export import exported
from alignflow.data.records import assistant, user, write_table


@pytest.fixture
def checkpoint(store, tmp_path):
    """The key of a checkpoint in the store."""
    (tmp_path / "model").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "model" / name).write_text(name)
    as_artifact(tmp_path / "model", store.root, "align-123")
    return "align-123"


def test_a_checkpoint_is_written_and_a_full_directory_refused(checkpoint, tmp_path):
    done = alignflow("export", "align", tmp_path / "out")
    assert done.returncode == 0 and (tmp_path / "out" / "model.safetensors").read_text() == "model.safetensors", (
        done.stderr
    )
    again = alignflow("export", "align", tmp_path / "out")
    assert again.returncode == 2 and "not an empty directory" in again.stderr


def test_the_card_of_a_model_has_a_header_and_loads_it_from_where_it_was_written(checkpoint, tmp_path):
    alignflow("export", "align", tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\n") and 'name = "out"' in card and str(tmp_path) not in card


def test_a_model_from_elsewhere_keeps_its_card(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "README.md").write_text("# Mine\n")
    done = alignflow("export", tmp_path / "model", tmp_path / "out")
    assert done.returncode == 0 and (tmp_path / "out" / "README.md").read_text() == "# Mine\n", done.stderr


def test_a_data_set_is_written_with_its_card(store, tmp_path):
    row = {"id": "1", "source": "t", "prompt": user("q"), "chosen": assistant("a"), "rejected": assistant("b")}
    write_table([row], "preferences", tmp_path / "data" / "preferences" / "train.parquet")
    as_artifact(tmp_path / "data", store.root, "label-1", "dataset")
    done = alignflow("export", "label-1", tmp_path / "out")
    assert done.returncode == 0 and "data/train-00000-of-00001.parquet: 1 rows" in done.stdout, done.stderr
    assert (tmp_path / "out" / "README.md").read_text().startswith("---\n")


def test_last_means_the_model_of_a_run_and_its_data_where_it_made_no_model(checkpoint, store, tmp_path):
    for key in ("label-1", "report-1"):
        (tmp_path / key).mkdir()
        as_artifact(tmp_path / key, store.root, key, "dataset" if key == "label-1" else "report")
    data = {"label": store.manifest("label-1"), "report": store.manifest("report-1")}
    record_run(store, {"align": store.manifest(checkpoint), **data}, "trained")
    record_run(store, data, "labelled")
    with exported("trained", "export", "out") as (name, kind, _):
        assert (name, kind) == (checkpoint, "model")
    with exported("last", "export", "out") as (name, kind, _):
        assert (name, kind) == ("label-1", "dataset")


def test_of_a_run_that_trains_its_reward_model_last_the_aligned_model_is_exported(checkpoint, store, tmp_path):
    (tmp_path / "reward").mkdir()
    as_artifact(tmp_path / "reward", store.root, "reward-1", "reward_model")
    record_run(store, {"align": store.manifest(checkpoint), "reward": store.manifest("reward-1")}, "iterated")
    with exported("last", "export", "out") as (name, kind, _):
        assert (name, kind) == (checkpoint, "model")


def test_of_a_run_that_labels_the_labels_are_exported_and_not_the_model_that_it_asked(store, tmp_path):
    (tmp_path / "content").mkdir()
    for key, kind in (("init-1", "checkpoint"), ("label-1", "dataset")):
        as_artifact(tmp_path / "content", store.root, key, kind)
    record_run(store, {"init": store.manifest("init-1"), "label": store.manifest("label-1")}, "labelled")
    with exported("labelled", "export", "out") as (name, kind, _):
        assert (name, kind) == ("label-1", "dataset")


def test_a_report_is_neither_a_model_nor_data(store, tmp_path):
    (tmp_path / "data").mkdir()
    as_artifact(tmp_path / "data", store.root, "report-1", "report")
    done = alignflow("export", "report-1", tmp_path / "out")
    assert done.returncode == 2 and "is a report, not a checkpoint or reward_model" in done.stderr


def test_a_whole_model_is_copied_without_torch(checkpoint, tmp_path):
    code = "import sys\nfrom alignflow.cli import app\ntry:\n    app.main()\nfinally:\n    print('torch imported:', 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, "export", "align", str(tmp_path / "out")], capture_output=True, text=True
    )
    assert done.returncode == 0 and "torch imported: False" in done.stdout, done.stderr


def test_a_data_set_has_no_dtype_and_an_unknown_dtype_is_refused(store, tmp_path):
    (tmp_path / "data").mkdir()
    as_artifact(tmp_path / "data", store.root, "label-1", "dataset")
    done = alignflow("export", "label-1", tmp_path / "out", "--dtype", "bf16")
    assert done.returncode == 2 and "no weights to convert" in done.stderr and not (tmp_path / "out").exists()
    assert alignflow("export", "label-1", tmp_path / "out", "--dtype", "fp8").returncode == 2
