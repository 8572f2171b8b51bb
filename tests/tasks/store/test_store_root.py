"""A store is made where nothing or an empty directory is; any other directory without a store.json of ours stays as it is."""

import json
import multiprocessing
import os

import pytest

from alignflow.data.artifacts import SCHEMA_VERSION
from alignflow.data.errors import StoreError, UserError
from alignflow.data.sharing import Sharing
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.store.store_root import DIRECTORIES, default_root, open_root

FORK = multiprocessing.get_context("fork")


def tree(root):
    """Every path below a directory with the bytes of its files."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in sorted(root.rglob("*"))
    }


@pytest.mark.parametrize("value", ["", " ", "\t\n"])
def test_an_empty_or_blank_variable_counts_as_unset(value, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALIGNFLOW_HOME", value)
    assert default_root() == tmp_path / ".alignflow"


def test_a_store_is_made_where_nothing_or_an_empty_directory_is(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    for root in (tmp_path / "new" / "deep", tmp_path / "empty", tmp_path / "link"):
        assert open_root(root) and {path.name for path in root.iterdir()} == {*DIRECTORIES, "store.json"}


@pytest.mark.parametrize(
    "name",
    ["work/train.py", "notes.txt", ".git/config", "artifacts/x/manifest.json", ".store.json.swp", "store.json.bak"],
)
@pytest.mark.parametrize("for_reading", [False, True])
def test_a_directory_with_anything_in_it_is_refused_and_left_as_it_is(tmp_path, name, for_reading):
    project = tmp_path / "project"
    (project / name).parent.mkdir(parents=True)
    (project / name).write_text("mine")
    before = tree(project)
    with pytest.raises(UserError, match=r"not an alignflow store.*no store\.json.*not empty") as raised:
        ArtifactStore(project, for_reading=for_reading)
    assert str(project) in str(raised.value) and "ALIGNFLOW_HOME" in raised.value.do and tree(project) == before


def test_what_a_killed_process_left_of_a_new_store_is_no_hindrance(tmp_path):
    root = tmp_path / "store"
    root.mkdir()
    (root / ".store.json.0123456789abcdef").write_text("{")
    assert open_root(root) and json.loads((root / "store.json").read_text()) == {"schema_version": SCHEMA_VERSION}


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "it is empty"),
        ("{", "it is not JSON"),
        ("[]", "no valid schema_version"),
        ("5", "no valid schema_version"),
        ("null", "no valid schema_version"),
        ("{}", "no valid schema_version"),
        ('{"schema_version": "1"}', "no valid schema_version"),
        ('{"schema_version": true}', "no valid schema_version"),
        ('{"schema_version": 1, "products": []}', "unknown field 'products'"),
        ('{"schema_version": 1, "shared": 5}', "'shared' cannot be read"),
        ("[" * 20000, "it is not JSON"),
        (b"\xff\xfe", "it is not JSON"),
    ],
)
def test_a_damaged_store_json_gives_one_message_that_says_how_to_heal_it(store, content, what):
    file = store.root / "store.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = tree(store.root)
    for for_reading in (False, True):
        with pytest.raises(StoreError, match="store.json is damaged") as raised:
            ArtifactStore(store.root, for_reading=for_reading)
        assert what in str(raised.value)
    assert tree(store.root) == before
    file.write_text(raised.value.do.split("lost: ")[1].splitlines()[0])  # what the message says to write
    assert ArtifactStore(store.root).sharing is None


def test_a_damaged_shared_store_is_healed_as_a_shared_one(store):
    store.share(Sharing())
    with store.lock("key"):
        pass
    (store.root / "store.json").write_text("{")
    with pytest.raises(StoreError) as raised:
        ArtifactStore(store.root)
    (store.root / "store.json").write_text(raised.value.do.split("lost: ")[1].splitlines()[0])
    assert ArtifactStore(store.root).sharing == Sharing()


@pytest.mark.parametrize("kind", ["directory", "link to nothing", "fifo"])
def test_a_store_json_that_is_no_file(store, kind):
    file = store.root / "store.json"
    file.unlink()
    {"directory": file.mkdir, "link to nothing": lambda: file.symlink_to("gone"), "fifo": lambda: os.mkfifo(file)}[
        kind
    ]()
    with pytest.raises(StoreError, match="store.json is damaged"):
        ArtifactStore(store.root)


@pytest.mark.parametrize("kind", ["file", "link to nothing", "link to itself", "long name", "below a file"])
def test_a_root_that_can_be_no_store(tmp_path, kind):
    root = tmp_path / "root"
    if kind == "file":
        root.write_text("mine")
    elif kind.startswith("link"):
        root.symlink_to(tmp_path / "gone" if kind == "link to nothing" else root)
    elif kind == "long name":
        root = tmp_path / ("x" * 300)
    else:
        (tmp_path / "file").write_text("mine")
        root = tmp_path / "file" / "store"
    with pytest.raises(UserError, match="cannot be written|there can be no store|broken link"):
        ArtifactStore(root)
    assert not (tmp_path / "gone").exists()


def test_processes_that_begin_at_once_make_one_store(tmp_path):
    def begin(root, ready, told):
        ready.wait()
        told.put(open_root(root))

    for number in range(15):
        root, ready, told = tmp_path / f"{number}" / "store", FORK.Event(), FORK.Queue()
        processes = [FORK.Process(target=begin, args=(root, ready, told)) for _ in range(4)]
        for process in processes:
            process.start()
        ready.set()
        assert [told.get(timeout=30) for _ in processes] == [True] * 4
        for process in processes:
            process.join()
        assert {path.name for path in root.iterdir()} == {*DIRECTORIES, "store.json"}


def test_a_slow_process_does_not_undo_what_another_one_wrote(tmp_path, monkeypatch):
    """It looked when nothing was there, and writes when the store is shared already."""
    from alignflow.tasks.store import store_root

    root = tmp_path / "store"
    with monkeypatch.context() as patch:
        patch.setattr(store_root, "_is_ours", lambda root: False)
        ArtifactStore(root).share(Sharing())
        open_root(root)
    assert ArtifactStore(root).sharing == Sharing()
