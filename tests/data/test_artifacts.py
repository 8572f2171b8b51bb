"""What an artifact says about itself is checked whenever it is read, and its files before they are used."""

import json
import os
import random

import pytest
from tests_support import as_artifact

from alignflow.data.artifacts import (
    SCHEMA_VERSION,
    checked_manifest,
    file_digest,
    manifest_text,
    read_manifest,
    verify_file,
    verify_files,
    verify_inputs,
    verify_whole,
)
from alignflow.data.errors import DamagedArtifactError, DataError
from alignflow.data.records import read_table, user, write_table


@pytest.fixture
def payload(tmp_path):
    """A payload with a table, a tokenizer and weights."""
    source = tmp_path / "source"
    write_table(
        [{"id": str(n), "prompt": user(f"question {n}")} for n in range(40)],
        "prompts",
        source / "prompts" / "train.parquet",
    )
    (source / "tokenizer.json").write_text('{"a": 1}')
    (source / "model.safetensors").write_text("weights")
    return as_artifact(source, tmp_path, "prepare-1")


def flip(path, offset=-1):
    """Change one byte, and put the time back."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_no_changed_byte_of_a_manifest_goes_unnoticed(payload):
    file = payload.parent / "manifest.json"
    whole, chance = file.read_bytes(), random.Random(0)
    for _ in range(400):
        content = bytearray(whole)
        content[chance.randrange(len(content))] ^= chance.randrange(1, 256)
        file.write_bytes(content)
        with pytest.raises(ValueError):
            read_manifest(payload.parent)
    file.write_bytes(whole)
    assert read_manifest(payload.parent).key == "prepare-1"


def test_a_manifest_of_another_artifact_is_refused(payload, tmp_path):
    other = as_artifact(payload, tmp_path, "prepare-2")
    (other.parent / "manifest.json").write_bytes((payload.parent / "manifest.json").read_bytes())
    with pytest.raises(DamagedArtifactError, match="manifest of prepare-1") as raised:
        checked_manifest(other.parent)
    assert raised.value.key == "prepare-2"


def test_a_manifest_whose_digest_is_not_that_of_its_files_is_refused(payload):
    changed = read_manifest(payload.parent).model_copy(update={"digest": "0" * 64})
    (payload.parent / "manifest.json").write_text(manifest_text(changed))
    with pytest.raises(ValueError, match="do not agree"):
        read_manifest(payload.parent)


def test_a_manifest_of_the_older_schema_has_no_seal_and_is_read(payload):
    file = payload.parent / "manifest.json"
    old = {name: value for name, value in json.loads(file.read_text()).items() if name not in ("seal", "side")}
    file.write_text(json.dumps({**old, "schema_version": 1}))
    assert read_manifest(payload.parent).seal == ""
    file.write_text(json.dumps({**old, "schema_version": SCHEMA_VERSION}))
    with pytest.raises(ValueError, match="not those that were written"):
        read_manifest(payload.parent)


@pytest.mark.parametrize("name", ["prompts/train.parquet", "tokenizer.json"])
def test_a_byte_that_changed_behind_a_files_time_is_found_before_an_input_is_used(payload, name):
    verify_inputs(payload)
    flip(payload / name)
    with pytest.raises(DamagedArtifactError, match=name) as raised:
        verify_inputs(payload)
    assert raised.value.key == "prepare-1"


def test_weights_are_left_to_whoever_loads_them(payload):
    flip(payload / "model.safetensors")
    verify_inputs(payload)
    with pytest.raises(DamagedArtifactError):
        verify_files(payload)


def test_only_the_part_that_a_stage_takes_is_hashed(payload):
    flip(payload / "tokenizer.json")
    verify_inputs(payload / "prompts")


@pytest.mark.parametrize("change", ["added", "gone"])
def test_a_file_that_was_added_or_is_gone_is_damage(payload, change):
    if change == "added":
        (payload / "added_tokens.json").write_text("{}")
    else:
        (payload / "tokenizer.json").unlink()
    with pytest.raises(DamagedArtifactError):
        verify_inputs(payload)


def test_what_a_file_system_leaves_in_a_directory_is_no_damage(payload):
    (payload / ".nfs0001").write_text("")
    verify_whole(payload)


def test_a_payload_is_checked_through_a_link_too(payload, tmp_path):
    (tmp_path / "model").symlink_to(payload)
    flip(payload / "tokenizer.json")
    with pytest.raises(DamagedArtifactError):
        verify_inputs(tmp_path / "model")


def test_an_input_whose_manifest_is_lost_is_damaged(payload):
    (payload.parent / "stat.json").write_text("{}")
    (payload.parent / "manifest.json").unlink()
    with pytest.raises(DamagedArtifactError, match="manifest"):
        verify_inputs(payload)


def test_a_directory_outside_a_store_passes(tmp_path):
    (tmp_path / "file").write_text("x")
    verify_inputs(tmp_path)
    verify_file(tmp_path / "file")


def test_an_unreadable_table_of_an_artifact_is_damage_and_one_of_the_user_is_not(payload, tmp_path):
    table = payload / "prompts" / "train.parquet"
    table.write_bytes(table.read_bytes()[:-20])
    with pytest.raises(DamagedArtifactError) as raised:
        read_table(table)
    assert raised.value.key == "prepare-1"
    (tmp_path / "mine.parquet").write_text("no table")
    with pytest.raises(DataError):
        read_table(tmp_path / "mine.parquet")


def test_a_copy_is_compared_with_the_original_files(payload, tmp_path):
    import shutil

    shutil.copytree(payload, tmp_path / "copy")
    verify_whole(payload, tmp_path / "copy")
    flip(tmp_path / "copy" / "tokenizer.json")
    with pytest.raises(DamagedArtifactError):
        verify_whole(payload, tmp_path / "copy")
    assert file_digest(payload / "tokenizer.json") == read_manifest(payload.parent).files["tokenizer.json"]
