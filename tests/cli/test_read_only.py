"""A store that cannot be written is listed, inspected, verified and exported from; what must write is refused with one message."""

import multiprocessing
import os
import shutil
import subprocess
import tempfile

import cli_support
import pytest
from flow_support import publish_all
from typer.testing import CliRunner

from alignflow.cli.app import app
from alignflow.data.configs.loading import load_recipe
from alignflow.data.errors import UserError

TINY = "recipes/tiny.yaml"
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def read_only(store, tmp_path):
    """The root of the same store behind a mount that is read-only."""
    root = tmp_path / "mounted"
    root.mkdir()
    steps = [["mount", "--bind", store.root, root], ["mount", "-o", "remount,ro,bind", root]]
    if (
        os.geteuid() != 0
        or not shutil.which("mount")
        or any(subprocess.run(step, capture_output=True).returncode for step in steps)
    ):
        subprocess.run(["umount", root], capture_output=True)
        pytest.skip("a read-only mount needs root, and a sandbox that lets it mount")
    yield root
    subprocess.run(["umount", root], check=True)


@pytest.fixture
def alignflow(read_only, repository):
    """A command on the store that is read-only, in this process; returns what it prints."""

    def command(*arguments, status=0, text=None):
        done = cli_support.alignflow(*arguments, text=text, cwd=repository, ALIGNFLOW_HOME=str(read_only))
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    return command


def state(root):
    return {str(path): path.lstat().st_mtime_ns for path in root.rglob("*")}


def test_everything_that_reads_works_and_writes_nothing(alignflow, made, store, tmp_path):
    before = state(store.root)
    assert made["init"].key[:20] in alignflow("list")
    assert "tokenizer: init-" in alignflow("lineage", made["prepare"].key)
    assert "2 artifacts are intact" in alignflow("verify")
    assert "cached" in alignflow("plan", TINY)
    alignflow("compare", made["prepare"].key, made["prepare"].key, "--output", tmp_path / "page.html")
    assert "server" in alignflow("status", status=1)
    alignflow("chat", made["init"].key, "--max-new-tokens", "2", text="hello\n\n")
    alignflow("export", made["init"].key, tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").is_file() and state(store.root) == before


def test_damage_is_told_and_nothing_is_set_aside(alignflow, made, store):
    file = store.payload(made["init"]) / "model.safetensors"
    before = file.stat()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    told = alignflow("verify", status=1)
    init, prepare = made["init"].key, made["prepare"].key
    assert "1 artifact is damaged, 1 artifact was made from damaged ones" in told
    assert "nothing was set aside, because the store is read-only" in told
    assert f"{init}: model.safetensors changed on disk" in told and f"{prepare}: derived from {init}" in told
    alignflow("plan", TINY)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert store.directory(made["init"].key).is_dir() and not list((store.root / "quarantine").iterdir())


@pytest.mark.parametrize(
    "command",
    [["run", TINY], ["gc", "--yes"], ["up"], ["share-store"], ["label", "--prompts", "x", "--model", "y"]],
    ids=lambda words: words[0],
)
def test_what_must_write_is_refused_with_one_message(read_only, command, monkeypatch, repository):
    monkeypatch.chdir(repository)
    monkeypatch.setenv("ALIGNFLOW_HOME", str(read_only))
    refused = CliRunner().invoke(app, command).exception
    assert (
        isinstance(refused, UserError)
        and "the store cannot be written (it is read-only" in str(refused)
        and str(read_only) in str(refused)
    )


def test_another_user_who_may_only_read_lists_and_verifies(store, repository):
    """As `test_everything_that_reads_works`, by the rights of files in place of a mount."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    publish_all(load_recipe(repository / TINY), store)
    above = [
        place
        for place in store.root.parents
        if place.is_relative_to(tempfile.gettempdir()) and place.stat().st_uid == os.geteuid()
    ]
    for place in (store.root, *store.root.rglob("*"), *above[:-1]):
        place.chmod(place.stat().st_mode | (0o055 if place.is_dir() else 0o044))
    told = FORK.Queue()

    CliRunner().invoke(app, ["verify"])  # what is imported late is imported now: nobody else may read this installation

    def work():
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        done = [CliRunner().invoke(app, command) for command in (["list", "init"], ["verify"], ["gc", "--yes"])]
        told.put([result.output + str(result.exception or "") for result in done])

    process = FORK.Process(target=work)
    process.start()
    listed, verified, refused = told.get(timeout=60)
    process.join()
    assert "init-" in listed and "10 artifacts are intact" in verified and "the store cannot be written" in refused
