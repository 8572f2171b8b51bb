"""The row journal: known rows are never computed again, and a kill loses the batch in flight alone."""

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignflow.data.host import FRESH_S, this_host
from alignflow.data.run import Share
from alignflow.models.generation.journal import RowJournal, RowWork, plan, shared


def doubled(ids, asked):
    def function(batch):
        asked.extend(ids[index] for index in batch)
        return [{"value": ids[index] * 2} for index in batch]

    return function


def test_results_come_in_the_order_of_the_ids(tmp_path):
    ids = ["c", "a", "b"]
    assert RowJournal(tmp_path).compute(ids, 2, doubled(ids, [])) == [{"value": "cc"}, {"value": "aa"}, {"value": "bb"}]


def test_a_known_row_is_never_computed_again(tmp_path):
    asked = []
    RowJournal(tmp_path).compute(["a", "b"], 1, doubled(["a", "b"], asked))
    ids = ["b", "c", "a"]
    assert [row["value"] for row in RowJournal(tmp_path).compute(ids, 8, doubled(ids, asked))] == ["bb", "cc", "aa"]
    assert asked == ["a", "b", "c"]


def test_a_failure_keeps_the_batches_before_it(tmp_path):
    ids = [str(number) for number in range(6)]

    def fails_late(batch):
        if batch[0] >= 4:
            raise RuntimeError("the machine burns")
        return list(batch)

    with pytest.raises(RuntimeError):
        RowJournal(tmp_path).compute(ids, 2, fails_late)
    assert sorted(RowJournal(tmp_path).known()) == ["0", "1", "2", "3"]


def test_a_half_written_temporary_counts_for_nothing_and_goes(tmp_path):
    (tmp_path / f".batch-999999999-{this_host().id}-x").write_text('{"a": 1')
    journal = RowJournal(tmp_path)
    assert journal.known() == {} and list(tmp_path.iterdir()) == []


def test_the_temporary_of_a_live_process_stays(tmp_path):
    other = tmp_path / f".batch-{os.getppid()}-x"
    other.write_text("{")
    RowJournal(tmp_path)
    assert other.exists()


def test_a_damaged_batch_is_computed_again(tmp_path):
    ids, asked = ["a", "b"], []
    RowJournal(tmp_path).compute(ids, 1, doubled(ids, asked))
    damaged = sorted(tmp_path.iterdir())[0]
    damaged.write_text(damaged.read_text()[:-3])
    assert [row["value"] for row in RowJournal(tmp_path).compute(ids, 1, doubled(ids, asked))] == ["aa", "bb"]
    assert len(asked) == 3


def test_one_changed_letter_has_its_batch_computed_again_and_is_counted(tmp_path):
    ids, asked, noted = ["a", "b"], [], []
    RowJournal(tmp_path).compute(ids, 1, doubled(ids, asked))
    damaged = sorted(tmp_path.iterdir())[0]
    damaged.write_bytes(
        damaged.read_bytes().replace(b"aa", b"ab").replace(b"bb", b"bc")
    )  # whole JSON, and another answer
    assert [row["value"] for row in RowJournal(tmp_path, noted.append).compute(ids, 1, doubled(ids, asked))] == [
        "aa",
        "bb",
    ]
    assert len(asked) == 3 and noted == [
        "1 batches of the row journal whose bytes changed on disk were dropped: their rows are computed again"
    ]


def test_a_batch_of_an_older_alignflow_has_no_digest_and_is_computed_again(tmp_path):
    noted = []
    (tmp_path / "batch-0.json").write_text(json.dumps({"a": {"value": "from before"}}))
    assert RowJournal(tmp_path, noted.append).compute(["a"], 1, doubled(["a"], [])) == [{"value": "aa"}]
    assert "carry no digest" in noted[0]


def test_a_batch_that_cannot_be_read_now_is_left(tmp_path, monkeypatch):
    ids, asked = ["a", "b"], []
    RowJournal(tmp_path).compute(ids, 1, doubled(ids, asked))
    unread, read = sorted(tmp_path.iterdir())[0], Path.read_bytes

    def failing(path, *arguments, **options):
        if path == unread:
            raise OSError(errno.ESTALE, "stale file handle", str(path))
        return read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_bytes", failing)
    assert len(RowJournal(tmp_path).known()) == 1 and unread.exists()
    monkeypatch.undo()
    assert len(RowJournal(tmp_path).known()) == 2


def test_an_id_that_stands_twice_is_computed_once(tmp_path):
    asked, ids = [], ["a", "a", "b"]
    assert [row["value"] for row in RowJournal(tmp_path).compute(ids, 2, doubled(ids, asked))] == ["aa", "aa", "bb"]
    assert asked == ["a", "b"]


def test_a_fresh_result_is_what_a_resumed_run_reads(tmp_path):
    fresh = RowJournal(tmp_path).compute(["a"], 1, lambda batch: [(1, 0.1 + 0.2, None, 0.0)])
    assert fresh == RowJournal(tmp_path).compute(["a"], 1, lambda batch: []) == [[1, 0.1 + 0.2, None, 0.0]]


def test_a_value_that_json_cannot_hold_is_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        RowJournal(tmp_path).compute(["a"], 1, lambda batch: [float("nan")])


def test_progress_starts_from_what_is_known_and_ends_at_all(tmp_path):
    seen = []
    RowJournal(tmp_path).compute(["a"], 1, lambda batch: [0])
    RowJournal(tmp_path).compute(["a", "b", "c"], 1, lambda batch: [0], lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_kill_9_in_the_middle_loses_the_batch_in_flight_alone(tmp_path):
    program = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from alignflow.models.generation.journal import RowJournal

        def function(batch):
            if batch[0] >= 4:
                os.kill(os.getpid(), signal.SIGKILL)
            return [index * 10 for index in batch]

        RowJournal(Path(sys.argv[1])).compute([str(number) for number in range(8)], 2, function)
        """
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=60,
    )
    assert ended.returncode == -signal.SIGKILL
    asked = []
    ids = [str(number) for number in range(8)]

    def function(batch):
        asked.append(batch)
        return [index * 10 for index in batch]

    assert RowJournal(tmp_path).compute(ids, 2, function) == [index * 10 for index in range(8)]
    assert asked == [[4, 5], [6, 7]]


def test_what_a_dead_process_left_half_written_goes_and_another_hosts_only_once_it_is_old(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    name = "0" * 32
    ours, fresh, old, alive = (
        tmp_path / f".batch-{pid}-{host}-{name}"
        for pid, host in (
            (dead.pid, this_host().id),
            (dead.pid, "another"),
            (dead.pid + 1, "another"),
            (os.getppid(), this_host().id),
        )
    )
    for path in (ours, fresh, old, alive):
        path.write_text("{")
    os.utime(old, (time.time() - 2 * FRESH_S,) * 2)
    RowJournal(tmp_path)
    assert [path.exists() for path in (ours, fresh, old, alive)] == [False, True, False, True]


@given(st.lists(st.integers(0, 20).map(str), max_size=30), st.sets(st.integers(0, 20).map(str)), st.integers(1, 5))
@settings(deadline=None)
def test_the_plan_covers_each_missing_id_once_and_in_order(ids, known, batch_size):
    batches = list(plan(ids, dict.fromkeys(known), batch_size))
    planned = [ids[index] for batch in batches for index in batch]
    assert planned == list(dict.fromkeys(identity for identity in ids if identity not in known))
    assert all(len(batch) == batch_size for batch in batches[:-1])


def share_of(tmp_path, number, of, files=()):
    (tmp_path / "known.json").write_text(json.dumps(list(files)))
    return Share(number=number, of=of, known=tmp_path / "known.json")


@given(
    st.lists(st.integers(0, 30).map(str), max_size=40),
    st.sets(st.integers(0, 30).map(str)),
    st.integers(1, 5),
    st.integers(1, 9),
)
@settings(deadline=None)
def test_every_batch_of_the_plan_falls_to_exactly_one_share(ids, known, batch_size, of):
    batches = list(plan(ids, dict.fromkeys(known), batch_size))
    shares = [shared(batches, Share(number=number, of=of, known="none")) for number in range(of)]
    assert sorted(batch for share in shares for batch in share) == sorted(batches)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1, "they are alike in size"


@pytest.mark.parametrize("of", [1, 2, 3, 8])
def test_shares_compute_the_batches_of_an_undisturbed_run(tmp_path, of):
    """The same rows beside each other: floating-point results may depend on that."""
    ids, whole, parts = [str(number) for number in range(11)], [], []
    RowJournal(tmp_path / "whole").compute(ids, 2, lambda batch: whole.append(batch) or batch)
    for number in reversed(range(of)):  # a later one sees what earlier ones committed, and keeps to the common plan
        RowJournal(tmp_path / "rows").fill(
            RowWork(ids, 2, lambda batch: parts.append(batch) or batch), share_of(tmp_path, number, of)
        )
    assert sorted(parts) == whole
    assert RowJournal(tmp_path / "rows").compute(ids, 2, lambda batch: pytest.fail("a row was missing")) == list(
        range(11)
    )


@given(
    st.lists(st.integers(0, 60).map(str), max_size=60),
    st.integers(1, 7),
    st.lists(st.tuples(st.integers(1, 4), st.lists(st.integers(0, 6), min_size=4, max_size=4)), max_size=10),
)
@settings(deadline=None, max_examples=30)
def test_however_often_it_is_killed_a_run_computes_the_batches_of_an_undisturbed_one(ids, batch_size, attempts):
    """With any number of shares, each killed after so many of its batches: in fp32 the results are then the same bytes."""
    undisturbed = list(plan(ids, {}, batch_size))
    asked = []
    with TemporaryDirectory() as directory:
        rows = Path(directory) / "rows"
        for of, survived in attempts:
            files = [path.name for path in rows.glob("batch-*.json")]
            for number in range(of):

                def compute(batch, left=[survived[number]]):  # noqa: B006 (one counter for each share)
                    if not left[0]:
                        raise Killed
                    left[0] -= 1
                    asked.append(batch)
                    return batch

                with suppress(Killed):
                    RowJournal(rows).fill(
                        RowWork(ids, batch_size, compute), share_of(Path(directory), number, of, files)
                    )
        RowJournal(rows).compute(ids, batch_size, lambda batch: asked.append(batch) or batch)
    assert sorted(asked) == sorted(undisturbed)


class Killed(Exception):
    """What stands for a kill."""


def test_a_share_leaves_out_what_is_there_and_counts_its_own_rows(tmp_path):
    ids, asked, heard = [str(number) for number in range(10)], [], []
    rows = tmp_path / "rows"
    RowJournal(rows).compute(ids[:4], 2, list)
    files = [path.name for path in rows.iterdir()]
    RowJournal(rows).compute(ids[4:6], 2, list)  # committed by somebody else after the plan was made
    work = RowWork(ids, 2, lambda batch: asked.append(batch) or batch, lambda done, total: heard.append((done, total)))
    assert [RowJournal(rows).fill(work, share_of(tmp_path, number, 2, files)) for number in (0, 1)] == [2, 2]
    assert asked == [[8, 9], [6, 7]] and heard == [(0, 2), (2, 2)] * 2


WRITER = """
import json, sys
from pathlib import Path
from alignflow.data.run import Share
from alignflow.models.generation.journal import RowJournal, RowWork
directory, known, number = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
ids = [str(number) for number in range(200)]
for _ in range(5):
    journal = RowJournal(directory)
    journal.fill(RowWork(ids, 4, lambda batch: [index * 10 for index in batch]), Share(number=number, of=2, known=known))
    journal.known()
"""


def test_several_processes_write_at_once(tmp_path):
    share_of(tmp_path, 0, 2)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    places = [str(tmp_path / "rows"), str(tmp_path / "known.json")]
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, *places, number], env=environment) for number in "0101"]
    assert [writer.wait(120) for writer in writers] == [0] * 4
    assert RowJournal(tmp_path / "rows").known() == {str(number): number * 10 for number in range(200)}
    assert not list((tmp_path / "rows").glob(".*"))
