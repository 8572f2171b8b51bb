"""One sampled answer, as whatever scores it sees it."""

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
        tokens: Its length in tokens, stop token included; None where nobody counted.
        group: Answers that are compared with each other share it: a prompt may stand in an update twice, where the stream of prompts goes
            round. None: all answers to the row.
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
