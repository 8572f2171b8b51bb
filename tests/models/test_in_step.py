"""Processes that make equally many passes."""

import pytest

from alignflow.models import in_step as module
from alignflow.models.in_step import in_step, passes_in_step


@pytest.mark.parametrize("others", [[], [1], [4]])
def test_a_process_with_fewer_passes_repeats_a_row_that_does_not_count(monkeypatch, others):
    monkeypatch.setattr(module.group, "gather", lambda own: [own, *others])
    found = in_step([[3, 1], [0, 2]])
    assert found[:2] == [([3, 1], True), ([0, 2], True)]
    assert found[2:] == [([3], False)] * (max([2, *others]) - 2)


def test_every_row_counts_once():
    found = passes_in_step([5, 3, 9, 1], 10)
    assert sorted(row for rows, counts in found if counts for row in rows) == [0, 1, 2, 3]
    assert all(sum([5, 3, 9, 1][row] for row in rows) <= 10 for rows, _ in found)
