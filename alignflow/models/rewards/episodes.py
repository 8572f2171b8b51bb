"""One sampled answer, the input of sources of rewards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Episode:
    """One sampled answer.

    Attributes:
        row: Its row of the prompts table.
        text: The answer.
        ended: Whether it ended by itself.
        tokens: Its length in tokens, stop token included; None if they were not counted.
        group: Same value for answers that are compared with each other: a prompt may be in an update twice, if a new epoch begins
            in it. None: all answers to the row.
    """

    row: dict[str, Any]
    text: str
    ended: bool
    tokens: int | None = None
    group: int | None = None

    @property
    def compared_with(self) -> tuple[str, int | None]:
        """The same for the answers of one group."""
        return self.row["id"], self.group
