"""The command line of the scripts that make pages: write them, or with `--check` say which are out of date."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


def out_of_date(pages: Mapping[str, Callable[[], str]], directory: Path) -> list[str]:
    """Names of the pages that are missing in a directory, or not what would be written now."""
    return [
        name
        for name, page in pages.items()
        if not (directory / name).is_file() or (directory / name).read_text(encoding="utf-8") != page()
    ]


def main(
    pages: Mapping[str, Callable[[], str]], description: str | None, arguments: Sequence[str], directory: Path
) -> int:
    """Write the pages of a script, or check them; returns the exit status.

    Args:
        pages: Path below the directory -> what makes its text.
        description: Of the script, for `--help`.
        arguments: Of the command line.
        directory: Where the pages are.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a page is out of date")
    if parser.parse_args(arguments).check:
        stale = out_of_date(pages, directory)
        for name in stale:
            print(f"docs/{name} is out of date: run `make tables`")
        return 1 if stale else 0
    for name, page in pages.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(page(), encoding="utf-8")
    return 0
