"""An equal number of forward passes in every process, though each has different rows."""

from __future__ import annotations

from collections.abc import Sequence

from alignflow.models.batching import make_micro_batches
from alignflow.models.engines import group


def passes_in_step(lengths: Sequence[int], micro_batch_tokens: int) -> list[tuple[list[int], bool]]:
    """Positions of this process's rows in each pass, and whether the pass counts.

    Args:
        lengths: Tokens of this process's rows; at least one row.
        micro_batch_tokens: Tokens of one pass.
    """
    return in_step(make_micro_batches(lengths, micro_batch_tokens))


def in_step(batches: Sequence[list[int]]) -> list[tuple[list[int], bool]]:
    """The passes of this process, at least one, and whether each counts; every process has the same number.

    Engines that partition a model communicate in every pass, so a process with fewer passes than another repeats
    its shortest row without counting it: its loss times 0, its statistics dropped.
    """
    most = max(group.gather(len(batches)))
    return [*((batch, True) for batch in batches), *((batches[0][:1], False) for _ in range(most - len(batches)))]
