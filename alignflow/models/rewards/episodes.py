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
    """

    row: dict[str, Any]
    text: str
    ended: bool
    tokens: int | None = None
