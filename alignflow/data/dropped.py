"""What became of the rows of a table, said and limited: no row is dropped in silence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alignflow.data.configs.inputs import PrepareConfig
from alignflow.data.errors import DataError, cut, quoted
from alignflow.data.run import Run

if TYPE_CHECKING:  # the flows' process shows what was dropped, and needs no Parquet for it
    from alignflow.data.parsing import Kept

OTHER_SPLIT = "other_split"
"""The reason of rows whose column `split` tells another split than that of their source, or none, where other rows tell one."""
ASKED_FOR = ("over_weight", "over_max_rows", OTHER_SPLIT)
"""Reasons that the recipe asks for: such rows are counted, and are no loss."""
REPEATED = "duplicate"
"""The reason of rows that are equal to another: their text is still there, so they are no loss either."""
WARNED_ABOVE = 0.1


@dataclass(frozen=True)
class Parsed:
    """How many rows a table had after parsing, and how many were lost by then."""

    rows: int
    lost: int
    asked: int

    @classmethod
    def of(cls, kept: Kept) -> Parsed:
        """Count a table that was parsed and not cleaned yet."""
        asked = sum(kept.dropped[reason] for reason in ASKED_FOR)
        return cls(len(kept.rows), sum(kept.dropped.values()) - asked, asked)

    def lost_share(self, kept: Kept) -> float:
        """The share of rows that were lost in parsing or cleaning. Rows that weight and max_rows left out were never cleaned, so both count apart."""
        parsed = self.rows + self.asked
        survived = parsed / max(parsed + self.lost, 1) * (len(kept.rows) + kept.dropped[REPEATED]) / max(self.rows, 1)
        return 1 - survived


def say_dropped(kind: str, kept: Kept, parsed: Parsed, config: PrepareConfig, run: Run) -> None:
    """Print what was kept and dropped; warn above a tenth.

    Raises:
        DataError: more than `max_dropped_fraction` of the rows were lost, or all of them.
    """
    line = kept_line(kind, len(kept.rows), kept.dropped)
    print(line, flush=True)
    if not kept.rows:
        reasons = ", ".join(f"{reason} {count}" for reason, count in (+kept.dropped).most_common(5))
        raise DataError(
            f"no {kind} are left ({reasons}){_example(kept)}",
            where=f"data.{kind}",
            do="look at the example: correct the data, or change the limit or the chat template that dropped most of them",
        )
    share = parsed.lost_share(kept)
    if share > config.max_dropped_fraction:
        raise DataError(
            f"too many rows are dropped, {share:.0%}: {line}{_example(kept)}",
            where=f"data.{kind}",
            do=f"correct the data or the limit that drops them, or raise data.max_dropped_fraction above {config.max_dropped_fraction:g}",
        )
    if share > WARNED_ABOVE:
        run.warn(f"{line}{_example(kept)}")


def kept_line(kind: str, kept: int, dropped: Mapping[str, float]) -> str:
    """`demonstrations: kept 20 of 40: 18 over_long, 2 empty`."""
    counts = sorted(
        ((int(count), reason) for reason, count in dropped.items() if count), key=lambda pair: (-pair[0], pair[1])
    )
    why = ", ".join(f"{count} {reason}" for count, reason in counts)
    return f"{kind}: kept {kept} of {kept + sum(count for count, _ in counts)}{f': {why}' if why else ''}"


def _example(kept: Kept) -> str:
    """An example of the commonest reason that was not asked for and has one."""
    for reason, count in kept.dropped.most_common():
        if count and reason not in (*ASKED_FOR, REPEATED) and kept.examples.get(reason):
            return f"; an example of {reason}: {quoted(cut(kept.examples[reason]))}"
    return ""
