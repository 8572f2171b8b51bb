"""Runs a module of exactly this package: `python -P start.py MODULE ARGUMENTS...`, whatever folder it is started in.

A stage's process must run the code of the process that started it. Putting the folder above the package on PYTHONPATH
would do that, and would let everything else in that folder be imported too. So the package itself is bound, and
nothing beside it. Standard library only, because this runs before anything else.

The garbage collector is paused: the module calls `collector.resume` when it has imported what it needs.
"""

from __future__ import annotations

import importlib.util
import runpy
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def bind_package() -> None:
    """Make `alignflow` the package that this file belongs to, where the interpreter would find none, or another one."""
    found = importlib.util.find_spec(PACKAGE.name)
    if found is not None and found.origin and Path(found.origin).resolve().parent == PACKAGE:
        return
    spec = importlib.util.spec_from_file_location(
        PACKAGE.name, PACKAGE / "__init__.py", submodule_search_locations=[str(PACKAGE)]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE.name] = module
    spec.loader.exec_module(module)


def main() -> None:
    """Run the module that the first argument names as `__main__`, with the other arguments."""
    del sys.argv[0]
    bind_package()
    importlib.import_module(f"{PACKAGE.name}.collector").pause()
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
