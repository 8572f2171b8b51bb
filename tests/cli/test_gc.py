"""`alignflow gc` through the command line: whose files it leaves alone, and what it says before it asks."""

import json
import time

import pytest
from cli_support import alignflow
from run_support import record_run
from tests_support import as_artifact
from typer.testing import CliRunner

from alignflow.cli import stored
from alignflow.cli.app import app
from alignflow.data.artifacts import SCHEMA_VERSION
from alignflow.data.errors import DamagedArtifactError, UserError
from alignflow.tasks.store.dashboard import write_dashboard
from alignflow.tasks.store.pins import using

PROJECT = (
    "work/train.py",
    "work/data/a.csv",
    "staging/site/index.html",
    "quarantine/sample.bin",
    "gates/logic/and.v",
    "rows/table.csv",
    "runs/1/log.txt",
    "artifacts/model.bin",
    "store.py",
    "README.md",
)


@pytest.fixture
def project(tmp_path):
    """Somebody's project whose folders are called as those of a store are."""
    root = tmp_path / "project"
    for name in PROJECT:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"bytes of {name}")
    return root


def whole(project):
    return all((project / name).read_text() == f"bytes of {name}" for name in PROJECT)


def test_an_empty_variable_does_not_make_the_working_directory_a_store(project):
    for command in (["list"], ["gc", "--yes", "--keep-last", "0"]):
        done = alignflow(*command, cwd=project, ALIGNFLOW_HOME="")
        assert done.returncode == 0, done.stderr
    assert whole(project) and {path.name for path in project.iterdir()} - {name.split("/")[0] for name in PROJECT} == {
        ".alignflow"
    }


@pytest.mark.parametrize(
    "command",
    [["list"], ["gc", "--yes"], ["verify"], ["plan", "recipes/tiny.yaml"], ["status"], ["down"]],
    ids=lambda words: words[0],
)
def test_a_project_that_is_named_as_the_store_is_refused_and_stays_as_it_is(project, command, repository):
    done = alignflow(*command, cwd=repository, ALIGNFLOW_HOME=str(project))
    assert done.returncode == 2 and "is not an alignflow store" in done.stderr and str(project) in done.stderr, (
        done.stdout + done.stderr
    )
    assert len(done.stderr.splitlines()) == 2 and "Traceback" not in done.stderr
    assert whole(project) and {path.name for path in project.iterdir()} == {name.split("/")[0] for name in PROJECT}


def test_a_project_that_an_earlier_alignflow_took_for_its_store_keeps_every_file(project):
    (project / "store.json").write_text(json.dumps({"schema_version": 1}))
    done = alignflow("gc", "--yes", "--keep-last", "0", "--unused-for", "0", ALIGNFLOW_HOME=str(project))
    assert done.returncode == 0 and "left alone: 8 entries" in done.stdout and "work/train.py" in done.stdout, (
        done.stdout + done.stderr
    )
    assert whole(project)


def test_it_says_what_and_how_much_before_it_asks_and_names_the_largest_alone(store, tmp_path):
    (tmp_path / "content").mkdir()
    for number in range(40):
        (tmp_path / "content" / "file").write_bytes(b"x" * 100_000 * (number + 1))
        as_artifact(tmp_path / "content", store.root, f"sft-{number:02d}")
    (store.root / "quarantine" / f"removed-{time.time_ns()}-0").mkdir()
    with using(store, "sft-39"):
        done = alignflow("gc", "--keep-last", "0", text="n\n")
    assert done.returncode == 1 and len(done.stdout.splitlines()) < 25, done.stdout
    assert "artifacts/: 39" in done.stdout and "artifacts/sft-38" in done.stdout and "and 29 more" in done.stdout
    assert "in use: 1" in done.stdout and "remove 40 entries, 78.0 MB?" in done.stdout
    assert len(list((store.root / "artifacts").iterdir())) == 40
    assert "removed 82.0 MB" in alignflow("gc", "--keep-last", "0", "--yes").stdout


@pytest.fixture
def runs(store, tmp_path):
    """A run of steps that do not lead to each other, and a model of no run."""
    (tmp_path / "content").mkdir()
    for key, kind in (
        ("sft-1", "checkpoint"),
        ("label-1", "dataset"),
        ("align-1", "checkpoint"),
        ("align-2", "checkpoint"),
    ):
        as_artifact(tmp_path / "content", store.root, key, kind)
    record_run(store, {step: store.manifest(f"{step}-1") for step in ("sft", "label", "align")}, "mine")


@pytest.mark.parametrize("name", ["mine", "last"])
def test_a_run_that_is_kept_is_kept_with_all_its_steps(store, runs, name):
    done = CliRunner().invoke(app, ["gc", "--keep", name, "--keep-last", "0", "--yes"])
    assert done.exit_code == 0, done.output
    assert {path.name for path in (store.root / "artifacts").iterdir()} == {"sft-1", "label-1", "align-1"}


@pytest.mark.parametrize(
    ("name", "error"), [("mine", DamagedArtifactError), ("mine~1", UserError), ("other", UserError)]
)
def test_nothing_is_removed_where_what_is_to_be_kept_is_damaged_or_not_known(store, runs, name, error):
    (store.directory("label-1") / "manifest.json").write_text("{")
    done = CliRunner().invoke(app, ["gc", "--keep", name, "--keep-last", "0", "--yes"])
    assert isinstance(done.exception, error) and len(list((store.root / "artifacts").iterdir())) == 4


def test_a_damaged_store_json_gives_the_same_message_whatever_the_command(store, repository):
    whole = json.dumps({"schema_version": SCHEMA_VERSION})
    (store.root / "store.json").write_text("{")
    for command in (
        ["list"],
        ["gc", "--yes"],
        ["plan", "recipes/tiny.yaml"],
        ["run", "recipes/tiny.yaml"],
        ["export", "sft", "out"],
        ["up"],
    ):
        done = alignflow(*command, cwd=repository)
        assert (
            done.returncode == 1 and "store.json is damaged: it is not JSON" in done.stderr and whole in done.stderr
        ), done.stderr
        assert "Traceback" not in done.stderr


def test_the_dashboard_of_the_store_no_longer_links_to_what_was_removed(store, runs):
    report = store.directory("align-1") / "side" / "report.html"
    report.parent.mkdir()
    report.write_text("the report")
    record_run(store, {"report": store.manifest("align-1")}, "reported")
    assert 'href="artifacts/align-1/side/report.html"' in write_dashboard(store).read_text()
    done = CliRunner().invoke(app, ["gc", "--keep-last", "0", "--yes"])
    assert done.exit_code == 0 and "dashboard.html again" in done.output, done.output
    assert "href" not in (store.root / "dashboard.html").read_text()


def test_a_store_without_a_dashboard_gets_none_and_one_that_cannot_be_written_is_told(store, runs, monkeypatch):
    def fails(store):
        raise UserError("the page cannot be written", where="dashboard.html", do="look at the disk")

    assert "again" not in CliRunner().invoke(app, ["gc", "--keep", "align-1", "--keep-last", "0", "--yes"]).output
    assert not (store.root / "dashboard.html").exists()
    monkeypatch.setattr(stored, "renew_dashboard", fails)
    done = CliRunner().invoke(app, ["gc", "--keep-last", "0", "--yes"])
    assert done.exit_code == 0 and "note: dashboard.html: the page cannot be written" in done.output
    assert not list((store.root / "artifacts").iterdir())
