"""Processes that tokenize and do nothing else leave torch out: transformers would import it, seconds and a quarter of a gigabyte in each."""

from __future__ import annotations

import os
import sys


def leave_torch_out() -> None:
    """Have this process take torch for not installed, unless it is imported already; only for a process that needs tokenizers alone.

    A None in `sys.modules` is Python's own way to say that a module cannot be imported; transformers asks before it imports.
    """
    if "torch" not in sys.modules:
        sys.modules["torch"] = None  # type: ignore[assignment]
        os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # it would say that there are no models
