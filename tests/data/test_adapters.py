"""An adapter finds the base that it was trained on, and no other."""

import json
import shutil

import pytest
from tests_support import as_artifact

from alignflow.data.adapters import find_base, is_adapter, write_base
from alignflow.data.artifacts import identity
from alignflow.data.errors import ModelError


@pytest.fixture
def base(tmp_path):
    directory = tmp_path / "base"
    directory.mkdir()
    (directory / "model.safetensors").write_text("weights")
    (directory / "config.json").write_text("{}")
    return directory


@pytest.fixture
def adapter(tmp_path):
    """An adapter whose base is yet to be written down."""
    directory = tmp_path / "adapter"
    directory.mkdir()
    (directory / "adapter_config.json").write_text("{}")
    return directory


@pytest.fixture
def in_store(tmp_path, base, adapter):
    """Base and adapter as artifacts of one store; returns their payloads."""
    store = tmp_path / "anywhere"
    kept = as_artifact(base, store, "init-1")
    write_base(adapter, kept)
    return kept, as_artifact(adapter, store, "sft-1")


def test_an_adapter_is_told_from_a_model(base, adapter):
    assert is_adapter(adapter) and not is_adapter(base) and not is_adapter("no/such-model")


def test_in_a_store_the_base_is_known_by_key_and_digest_and_no_path(in_store):
    base, adapter = in_store
    key, digest = identity(base)
    assert json.loads((adapter / "base.json").read_text()) == {"key": key, "digest": digest} and key == "init-1"
    assert find_base(adapter) == base


def test_a_store_may_move(in_store, tmp_path):
    shutil.move(tmp_path / "anywhere", tmp_path / "elsewhere")
    assert (
        find_base(tmp_path / "elsewhere" / "artifacts" / "sft-1" / "payload")
        == tmp_path / "elsewhere/artifacts/init-1/payload"
    )


def test_the_same_bytes_under_another_key_do_as_well(in_store):
    base, adapter = in_store
    moved = as_artifact(base, base.parents[2], "init-2")
    shutil.rmtree(base.parent)
    assert find_base(adapter) == moved


def test_a_missing_base_is_a_clear_error(in_store):
    base, adapter = in_store
    shutil.rmtree(base.parent)
    with pytest.raises(ModelError, match="its base checkpoint init-1 is missing"):
        find_base(adapter)


def test_an_adapter_that_was_taken_out_of_its_store_says_what_it_lacks(in_store, tmp_path):
    shutil.copytree(in_store[1], tmp_path / "alone")
    with pytest.raises(ModelError, match=r"missing\n.*alignflow export"):
        find_base(tmp_path / "alone")


def test_another_base_under_the_same_key_is_refused(in_store, base):
    kept, adapter = in_store
    shutil.rmtree(kept.parent)
    (base / "model.safetensors").write_text("other weights")
    as_artifact(base, kept.parents[2], "init-1")
    with pytest.raises(ModelError, match="has changed"):
        find_base(adapter)


def test_outside_a_store_the_base_is_known_by_the_way_to_it(base, adapter):
    write_base(adapter, base)
    assert json.loads((adapter / "base.json").read_text())["path"] == "../base" and find_base(adapter) == base
    (base / "model.safetensors").write_text("other weights")
    with pytest.raises(ModelError, match="has changed"):
        find_base(adapter)


@pytest.mark.parametrize("name", ["../base", "org/base"])
def test_an_adapter_of_others_names_its_base_itself(name, base, adapter):
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": name}))
    assert find_base(adapter) == (adapter / "../base" if name == "../base" else name)


def test_an_adapter_that_names_no_base_is_refused(adapter):
    with pytest.raises(ModelError, match="names no base"):
        find_base(adapter)
