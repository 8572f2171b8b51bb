"""Python's garbage collector does not run while a process imports its libraries.

Imports make millions of objects that live as long as the process, and the collector would look through them again and
again: that took 0.6 s of the 4.2 s of CPU in which torch and transformers are imported, and 0.7 of the 3.8 s of
Prefect's server. Standard library only: it acts before anything else is imported.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


def pause() -> None:
    """Stop the collector; whoever has imported what the process needs calls `resume`."""
    gc.disable()


def resume() -> None:
    """Start the collector where it was stopped. What exists by now is never looked at again, so call it once, after the imports."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """Imports inside are not interrupted by the collector. Afterwards it runs again where it ran before, and looks at everything."""
    ran = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if ran:
            gc.enable()
