"""The files behind a local path: one file, those of a folder, or those that a pattern matches; in the order of their names."""

from __future__ import annotations

import glob
from pathlib import Path

from alignflow.data.errors import DataError, cut


def is_pattern(path: str) -> bool:
    """Whether a path is a pattern (`prompts/*.jsonl`, `**` for any depth) and not the name of something that exists."""
    return glob.has_magic(path) and not Path(path).exists()


def matched(pattern: str) -> dict[str, Path]:
    """The files that a pattern matches by their names below its fixed part, sorted; none where nothing matches.

    Hidden files and folders are left out: whoever writes into a folder that is read may write under such a name first.
    """
    root = Path(*(part for part in _fixed(Path(pattern).parts)))
    names = glob.glob(str(Path(pattern).relative_to(root)), root_dir=root, recursive=True)
    return {_readable(name, root): root / name for name in sorted(names) if (root / name).is_file() and not is_hidden(Path(name))}


def inside(folder: Path) -> dict[str, Path]:
    """All files of a folder by their names below it, sorted, at any depth; hidden ones are left out."""
    files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {_readable(name, folder): path for name, path in files.items() if not is_hidden(Path(name))}


def _readable(name: str, folder: Path) -> str:
    """The name itself; raises DataError for one that no message, table or key could hold."""
    try:
        name.encode()
    except UnicodeEncodeError:
        do = "rename it, or move it out of the folder"
        raise DataError(f"the name of the file {cut(ascii(name))} is not UTF-8 text", where=str(folder), do=do) from None
    return name


def is_hidden(name: Path) -> bool:
    """Whether a file or one of the folders above it starts with a dot."""
    return any(part.startswith(".") for part in name.parts)


def _fixed(parts: tuple[str, ...]) -> tuple[str, ...]:
    first = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    return parts[:first]
