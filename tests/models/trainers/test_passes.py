"""Rows are dealt to processes evenly, each once, and every process runs equally many passes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignflow.models.batching import make_micro_batches
from alignflow.models.engines import group
from alignflow.models.trainers.passes import deal, passes

LENGTHS = st.lists(st.integers(1, 50), max_size=40)


def all_passes(lengths, processes, tokens):
    """The passes of each process."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(group, "size", lambda: processes)
        for rank in range(processes):
            patch.setattr(group, "rank", lambda rank=rank: rank)
            found.append(passes(lengths, tokens))
    return found


@given(LENGTHS, st.integers(1, 5))
def test_each_row_goes_to_one_process_and_tokens_are_balanced(lengths, processes):
    shares = deal(lengths, processes)
    assert sorted(row for share in shares for row in share) == list(range(len(lengths)))
    tokens = [sum(lengths[row] for row in share) for share in shares]
    assert max(tokens) - min(tokens) <= max(lengths, default=0)


@given(LENGTHS, st.integers(1, 5), st.integers(1, 120))
def test_every_process_runs_equally_many_passes_and_each_row_counts_once(lengths, processes, tokens):
    plans = all_passes(lengths, processes, tokens)
    assert len({len(plan) for plan in plans}) == 1
    counted = [row for plan in plans for own in plan if own.counts for row in own.rows]
    assert sorted(counted) == list(range(len(lengths)))
    assert all(own.rows for plan in plans for own in plan)
    for plan in plans:
        for own in plan:
            assert sum(lengths[row] for row in own.rows) <= tokens or len(own.rows) == 1


@given(LENGTHS, st.integers(1, 120))
def test_one_process_runs_the_micro_batches_as_they_are(lengths, tokens):
    (plan,) = all_passes(lengths, 1, tokens)
    assert [own.rows for own in plan] == make_micro_batches(lengths, tokens)


def test_no_rows_are_no_passes():
    assert all_passes([], 3, 64) == [[], [], []]
