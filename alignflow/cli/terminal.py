"""The console of all commands. Text from data, models, recipes and paths cannot control the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import rich.console
from rich.segment import Segment

from alignflow.data.printable import printable


class Console(rich.console.Console):
    """rich's console, but escape sequences in texts are written out, not passed on. Its own colours and cursor moves stay."""

    def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:
        """Segments of the output with texts that are safe to show."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)
