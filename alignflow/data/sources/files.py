"""The files behind a local path: one file, those of a folder, or those that a pattern matches; in the order of their names."""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Sequence
from pathlib import Path

from alignflow.data.errors import DataError, cut
from alignflow.data.sources.packing import PACKED


def is_pattern(path: str) -> bool:
    """Whether a path is a pattern (`prompts/*.jsonl`, `**` for any depth) and not the name of something that exists."""
    return glob.has_magic(path) and not Path(path).exists()


def matched(pattern: str) -> dict[str, Path]:
    """The files that a pattern matches by their names below its fixed part, sorted; none where nothing matches.

    Hidden files and folders are left out: whoever writes into a folder that is read may write under such a name first.
    """
    root = pattern_root(pattern)
    parts = Path(pattern).relative_to(root).parts
    if "**" in parts:  # glob would follow a link that leads back to its own folder again and again
        return {name: path for name, path in inside(root).items() if _fits(Path(name).parts, parts)}
    names = glob.glob(str(Path(*parts)), root_dir=root)
    return {
        _readable(name, root): root / name
        for name in sorted(names)
        if (root / name).is_file() and not is_hidden(Path(name))
    }


def pattern_root(pattern: str) -> Path:
    """The folder that a pattern starts at: its parts before the first that is a pattern itself."""
    parts = Path(pattern).parts
    return Path(*parts[: next(index for index, part in enumerate(parts) if glob.has_magic(part))])


def inside(folder: Path, links: bool = True) -> dict[str, Path]:
    """All files of a folder by their names below it, sorted, at any depth; hidden ones are left out.

    A link to a file keeps its own name. A link to a folder is followed, unless `links` says otherwise; a folder that several
    links lead to is entered once.

    Raises:
        DataError: a link leads back to a folder that it lies in, or a name is no text.
    """
    found = sorted(path for path in _walk(folder, links) if path.is_file())
    return {_readable(str(path.relative_to(folder)), folder): path for path in found}


def _walk(folder: Path, links: bool) -> list[Path]:
    """What lies below a folder and is no folder; folders themselves before those that links lead to, so that each keeps its own name."""
    found: list[Path] = []
    entered = {os.path.realpath(folder)}
    folders = [folder]
    linked: list[Path] = []
    while folders or linked:
        place = folders.pop() if folders else linked.pop(0)
        if place.is_symlink() and place != folder:
            real = os.path.realpath(place)
            if f"{os.path.realpath(place.parent)}{os.sep}".startswith(f"{real.rstrip(os.sep)}{os.sep}"):
                raise DataError(
                    "the link leads back to a folder that it lies in", where=cut(str(place)), do="remove the link"
                )
            if real in entered:
                continue
            entered.add(real)
        for path in (place / name for name in _names(place) if not name.startswith(".")):
            if not os.path.isdir(path):
                found.append(path)
            elif path.is_symlink():
                linked += [path] if links else []
            elif (real := os.path.realpath(path)) not in entered:
                entered.add(real)
                folders.append(path)
    return found


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise DataError(
            f"the folder cannot be read: {error.strerror}",
            where=cut(str(folder)),
            do="check its permissions, or move it away",
        ) from None


def hidden_inside(folder: Path) -> list[str]:
    """Names below a folder of the hidden files and folders in it, at any depth, sorted; what lies in a hidden folder is not named."""
    found: list[str] = []
    for place, folders, files in os.walk(folder):
        hidden = [os.path.join(place, name) for name in (*folders, *files) if name.startswith(".")]
        found += [os.path.relpath(path, folder).encode("utf-8", "replace").decode() for path in hidden]
        folders[:] = [name for name in folders if not name.startswith(".")]
    return sorted(found)


def odd_files(folder: Path) -> list[Path]:
    """What lies in a folder and can be no data: pipes, devices, sockets, links to nothing; sorted, without hidden ones."""
    return sorted(path for path in _walk(folder, links=True) if not path.is_file())


def own_suffix(path: Path, known: Sequence[str]) -> tuple[str, str]:
    """The suffix that says what a file is, in small letters, and that of packing.PACKED behind it, empty where it has none.

    It is that of the file's own name: a link of the Hub's cache is called `data.jsonl`, and what it leads to has a digest for
    a name. Only where a link's name says nothing does that of its target count.
    """
    for name in (path, *([Path(os.path.realpath(path))] if path.is_symlink() else [])):
        suffixes = [suffix.lower() for suffix in name.suffixes]
        packed = suffixes[-1] if suffixes[-1:] and suffixes[-1] in PACKED and len(suffixes) > 1 else ""
        kind = suffixes[-2] if packed else "".join(suffixes[-1:])
        if kind in known:
            return kind, packed
    return "".join(path.suffixes[-1:]).lower(), ""


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the parts of a name fit those of a pattern, in which `**` stands for any number of folders."""
    if not pattern or not parts:
        return not parts and all(part == "**" for part in pattern)
    if pattern[0] == "**":
        return _fits(parts, pattern[1:]) or _fits(parts[1:], pattern)
    return fnmatch.fnmatchcase(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])


def _readable(name: str, folder: Path) -> str:
    """The name itself; raises DataError for one that no message, table or key could hold."""
    try:
        name.encode()
    except UnicodeEncodeError:
        do = "rename it, or move it out of the folder"
        raise DataError(
            f"the name of the file {cut(ascii(name))} is not UTF-8 text", where=str(folder), do=do
        ) from None
    return name


def is_hidden(name: Path) -> bool:
    """Whether a file or one of the folders above it starts with a dot."""
    return any(part.startswith(".") for part in name.parts)
