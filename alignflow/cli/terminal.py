"""The console that commands print to. What it shows of data, models, recipes and paths cannot steer the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import rich.console
from rich.segment import Segment

from alignflow.data.printable import printable


class Console(rich.console.Console):
    """rich's console, which passes escape sequences on; this one writes them out. Its own colours and cursor moves stay."""

    def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:
        """Segments of what is printed, each with a text that is safe to show."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)
