"""Replies on disk: what was written is found again, what is torn or changed is not, and each of both is counted."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from alignflow.models.generation.reply_journal import PATTERN, ReplyJournal


@pytest.fixture
def notes():
    return []


def lines(directory):
    return [line for path in directory.glob(PATTERN) for line in path.read_bytes().splitlines(keepends=True)]


def test_a_reply_is_found_by_this_journal_and_by_the_next(tmp_path, notes):
    journal = ReplyJournal(tmp_path, notes.append)
    assert journal.get("one") is None
    journal.add("one", {"text": "ä", "logps": {"A": -0.5}, "ended": True})
    for each in (journal, ReplyJournal(tmp_path, notes.append)):
        assert each.get("one") == {"text": "ä", "logps": {"A": -0.5}, "ended": True} and len(each) == 1
    assert notes == []


def test_each_journal_writes_a_file_of_its_own(tmp_path, notes):
    for name in ("one", "two"):
        ReplyJournal(tmp_path, notes.append).add(name, {})
    assert len(list(tmp_path.glob(PATTERN))) == 2 and len(ReplyJournal(tmp_path, notes.append)) == 2


@pytest.mark.parametrize("cut", [1, 5, 40, 60])
def test_a_torn_last_line_is_dropped_and_counted(tmp_path, notes, cut):
    journal = ReplyJournal(tmp_path, notes.append)
    journal.add("one", {"text": "kept"})
    journal.add("two", {"text": "torn"})
    journal.close()
    (path,) = tmp_path.glob(PATTERN)
    path.write_bytes(path.read_bytes()[:-cut])
    again = ReplyJournal(tmp_path, notes.append)
    assert again.get("one") == {"text": "kept"} and again.get("two") is None
    assert len(notes) == 1 and notes[0].startswith("1 half-written replies")


def test_a_line_whose_bytes_changed_is_dropped_and_counted_wherever_it_stands(tmp_path, notes):
    journal = ReplyJournal(tmp_path, notes.append)
    for name in ("one", "two", "three"):
        journal.add(name, {"text": name})
    journal.close()
    (path,) = tmp_path.glob(PATTERN)
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"text":"two"', b'"text":"TWO"'))
    assert path.read_bytes() != content
    again = ReplyJournal(tmp_path, notes.append)
    assert [again.get(name) and again.get(name)["text"] for name in ("one", "two", "three")] == ["one", None, "three"]
    assert len(notes) == 1 and notes[0].startswith("1 replies whose bytes changed")


def test_the_line_that_a_living_process_writes_is_not_counted_as_torn(tmp_path, notes):
    journal = ReplyJournal(tmp_path, notes.append)
    journal.add("one", {})
    (path,) = tmp_path.glob(PATTERN)
    with open(path, "ab") as file:
        file.write(b"half a li")
    assert len(ReplyJournal(tmp_path, notes.append)) == 1 and notes == []


WRITER = """
import sys
from pathlib import Path
from alignflow.models.generation.reply_journal import ReplyJournal
journal = ReplyJournal(Path(sys.argv[1]))
for number in range(100000):
    journal.add(str(number), {"text": "x" * 50})
    print(number, flush=True)
"""


def test_what_add_returned_from_outlives_kill_9(tmp_path, notes):
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    seen = []
    while len(seen) < 30:
        seen.append(int(process.stdout.readline()))
        assert time.monotonic() < end
    os.kill(process.pid, signal.SIGKILL)
    seen += [int(line) for line in process.stdout.read().split()]
    process.wait()
    journal = ReplyJournal(tmp_path, notes.append)
    assert all(journal.get(str(number)) for number in seen)
    assert len(journal) - len(seen) in (0, 1), "at most one was written and not yet said"


def test_lines_are_a_digest_and_json(tmp_path, notes):
    ReplyJournal(tmp_path, notes.append).add("one", {"text": "a\nb"})
    (line,) = lines(tmp_path)
    assert json.loads(line.partition(b" ")[2]) == {"id": "one", "reply": {"text": "a\nb"}}
