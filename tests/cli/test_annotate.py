"""`alignflow annotate` through the command line, without its page: export, reports, and what it refuses."""

import json
import re
import signal
import subprocess
import sys
import urllib.request

import cli_support
import pytest
from run_support import record_run
from tests_support import as_artifact

from alignflow.cli import annotate as command
from alignflow.data.annotation.answers import Session
from alignflow.data.annotation.pairs import read_pairs
from alignflow.data.errors import UserError
from alignflow.data.records import assistant, user, write_table


def alignflow(*arguments, **more):
    return cli_support.alignflow("annotate", *arguments, **more)


@pytest.fixture
def data(tmp_path):
    file = tmp_path / "data.jsonl"
    file.write_text(
        "".join(json.dumps({"prompt": f"q{n}", "completions": ["good", "bad", "good"]}) + "\n" for n in range(4))
    )
    return file


@pytest.fixture
def served(tmp_path, data):
    """A session that was begun, its page asked for, and ended by Ctrl-C; what it printed."""
    command = [
        sys.executable,
        "-m",
        "alignflow",
        "annotate",
        str(tmp_path / "labels"),
        "--data",
        str(data),
        "--max-pairs",
        "3",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    lines = []
    while not (lines and lines[-1].startswith("http://127.0.0.1:")):
        lines.append(process.stdout.readline())
        assert lines[-1], lines
    page = urllib.request.urlopen(lines[-1].strip()).read().decode()
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "Which answer is better?" in page
    return "".join(lines) + rest


def label(directory, annotator, count, good=True):
    session = Session(directory, read_pairs(directory), annotator)
    for _ in range(count):
        shown = session.state()["pair"]
        is_first = (shown["answers"][0] == "good") == good
        session.answer(shown["item"], "first" if is_first else "second", 1.0)
    session.close()


def test_a_session_says_where_it_is_what_was_left_out_and_how_far_it_came(served):
    assert re.search(r"http://127\.0\.0\.1:\d+/[\w-]{32,}/", served)
    for line in (
        "left out: 4 equal answers",
        "left out: 4 the same pair twice",
        "left out: 1 over --max-pairs",
        "0 of 3 pairs are labelled",
    ):
        assert line in served, served


def test_labels_are_exported_and_agreement_is_reported(served, tmp_path):
    directory, labels = tmp_path / "labels", tmp_path / "labels.jsonl"
    assert alignflow(directory, "--export", labels).returncode == 2, "no pair is labelled yet"
    label(directory, "anna", 3)
    label(directory, "ben", 2, good=False)
    labels = labels.parent / "new" / labels.name
    done = alignflow(directory, "--export", labels)
    assert done.returncode == 0 and "3 pairs with 5 votes, 0 of them ties" in done.stdout, done.stderr
    rows = [json.loads(line) for line in labels.read_text().splitlines()]
    assert sorted(len(row["votes"]) for row in rows) == [1, 2, 2]
    for place in (directory, labels):
        figures = json.loads(alignflow(place, "--report", "--json").stdout)
        assert figures["labellers"] == {"anna": 3, "ben": 2} and figures["pairs"][0]["agree"] == 0
    judge = tmp_path / "judge.jsonl"
    judge.write_text(
        "".join(
            json.dumps({"prompt": f"q{n}", "chosen": "good", "rejected": "bad", "judge": "llm"}) + "\n"
            for n in range(4)
        )
    )
    told = alignflow(directory, "--report", "--with", judge).stdout
    assert "anna / llm" in told and "100.0%" in told and "Krippendorff's alpha over 3 pairs" in told


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["labels"], "no pairs in it yet"),
        (["labels", "--data", "nothing.jsonl"], "nothing.jsonl"),
        (["labels", "--report"], "labels"),
    ],
)
def test_what_is_not_there_is_said_in_one_message(arguments, said, tmp_path):
    done = alignflow(*arguments, cwd=tmp_path, HF_HUB_OFFLINE="1")
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


def test_a_name_that_would_be_a_path_is_refused(data, tmp_path):
    done = alignflow(tmp_path / "labels", "--data", data, "--annotator", "../x")
    assert done.returncode == 2 and "a name has up to 40 letters" in done.stderr


@pytest.fixture
def labelled(store, tmp_path):
    """A run called `quickstart` that labelled a pair, and then computed log-probabilities of the reference."""
    row = {"id": "1", "source": "t", "prompt": user("q"), "chosen": assistant("a"), "rejected": assistant("b")}
    write_table([row], "preferences", tmp_path / "made" / "preferences" / "train.parquet")
    as_artifact(tmp_path / "made", store.root, "label-1", "dataset")
    (tmp_path / "logps").mkdir()
    as_artifact(tmp_path / "logps", store.root, "reference-1", "dataset")
    record_run(store, {step: store.manifest(f"{step}-1") for step in ("label", "reference")}, "quickstart")


def test_the_last_data_set_is_that_with_labels_and_not_the_log_probabilities_of_a_reference(labelled):
    labels, left_out = command._labels("last")
    assert labels == command._labels("label-1")[0] and len(labels["label-1"]) == 1 and not left_out
    assert [row["prompt"] for row in command._rows("last", "auto")] == [user("q")]


def test_data_without_labelled_pairs_is_refused_as_labels(labelled):
    with pytest.raises(UserError, match="reference-1 has no labelled pairs"):
        command._labels("reference")


def test_the_bare_name_of_a_run_hides_no_data_set_of_the_hub(labelled, monkeypatch):
    asked = []
    monkeypatch.setattr(command, "rows_of_source", lambda data, _: asked.append(data) or [])
    command._rows("quickstart", "auto")
    assert asked == ["quickstart"] and command._rows("quickstart~0", "auto")
    with pytest.raises(UserError, match="no artifact matches 'sample-9'"):
        command._rows("sample-9", "auto")
