"""Assigns rows to processes and forward passes: a function of lengths, so that all processes agree without communication."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from alignflow.models.batching import make_micro_batches
from alignflow.models.engines import group


@dataclass(frozen=True)
class Pass:
    """One forward pass.

    Attributes:
        rows: Positions of its rows.
        counts: False for a pass that only matches the number of other processes (under ZeRO 2 and 3 all processes communicate in
            each pass): its loss is multiplied by 0, and its figures are dropped.
    """

    rows: list[int]
    counts: bool = True


def deal(lengths: Sequence[int], processes: int) -> list[list[int]]:
    """Positions of rows for each process, so that their tokens are about equal: the longest first, to the process with the fewest.

    Each process's positions are in order. With one process it has all of them.
    """
    shares: list[list[int]] = [[] for _ in range(processes)]
    tokens = [0] * processes
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        process = tokens.index(min(tokens))
        shares[process].append(row)
        tokens[process] += lengths[row]
    return [sorted(share) for share in shares]


def passes(lengths: Sequence[int], micro_batch_tokens: int) -> list[Pass]:
    """This process's forward passes over rows of these lengths: every process has the same number.

    A process that has fewer repeats the shortest row, without counting it.
    """
    plans = [
        [
            [share[position] for position in batch]
            for batch in make_micro_batches([lengths[row] for row in share], micro_batch_tokens)
        ]
        for share in deal(lengths, group.size())
    ]
    own = plans[group.rank()]
    missing = max(len(plan) for plan in plans) - len(own)
    shortest = min(range(len(lengths)), key=lambda row: (lengths[row], row), default=0)
    return [*(Pass(batch) for batch in own), *(Pass([shortest], counts=False) for _ in range(missing))]
