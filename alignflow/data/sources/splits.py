"""Which files of a folder or pattern are read: those of the wanted split, as their names tell it, and each of them once."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from alignflow.data.errors import DataError, cut, quoted
from alignflow.data.sources.files import own_suffix
from alignflow.data.sources.packing import PACKED

_WORDS: Mapping[str, str] = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "heldout": "heldout",
    "holdout": "heldout",
}
_ENDING = re.compile(r"(?:sets?|data|files?)\Z")
"""What a word may have after the split's name: `trainset`, `testdata`."""
_NAME = re.compile(r"[\w.-]+")
"""What a split may be called in a column: one word, or several that are joined."""
_SHARD = re.compile(r"(.+?)-\d{5,}-of-\d{5,}")
_ABOUT_DATA = frozenset({"dataset_info.json", "dataset_infos.json"})
_WELL_KNOWN = frozenset(
    {"readme", "license", "licence", "copying", "notice", "citation", "changelog", "sha256sums", "md5sums"}
)
"""What files beside data are called that describe it, without their suffix and in small letters."""
_DOCUMENTS = frozenset({"", ".md", ".rst", ".txt", ".cff", ".html", ".pdf"})
HIDDEN, DESCRIBES = "hidden", "describes the data"
"""Why files are left out that nobody takes for data: a line that names the others has these in a few words at its end."""
LISTED = 5


@dataclass(frozen=True)
class Chosen:
    """Files to read, and what is left out beside them.

    Attributes:
        files: In the order of their names.
        left_out: Name -> why it is not read.
    """

    files: tuple[Path, ...]
    left_out: Mapping[str, str]


def choose_files(
    found: Mapping[str, Path], split: str, known: Collection[str], where: str, hidden: Collection[str] = ()
) -> Chosen:
    """Choose among the files of a folder or pattern, by their names below it.

    Files that describe the data (README, LICENSE) are left out, and so is what is `hidden`.
    Where names tell splits, only the files of `split` are read; where all are of one split, and none other was asked for, they
    are. Files in .json are read where there are no others: beside data they describe it.

    Raises:
        DataError: names tell the split of some files alone, or there is none of the wanted split.
    """
    left_out = dict.fromkeys(hidden, HIDDEN) | dict.fromkeys(filter(_describes, found), DESCRIBES)
    found = {name: path for name, path in found.items() if name not in left_out}
    data = {name: path for name, path in found.items() if own_suffix(path, list(known))[0] in known}
    left_out |= dict.fromkeys(found.keys() - data.keys(), "no kind of data that is known")
    lines = {name: path for name, path in data.items() if own_suffix(path, list(known))[0] != ".json"}
    if lines:
        left_out |= dict.fromkeys(data.keys() - lines.keys(), "a .json beside other data")
    data = _of_split(lines or data, split, where, left_out)
    files: dict[str, str] = {}
    for name, path in data.items():
        if (real := os.path.realpath(path)) in files:
            left_out[name] = f"the same file as {files[real]}"
        else:
            files[real] = name
    return Chosen(tuple(data[name] for name in files.values()), dict(sorted(left_out.items())))


def _describes(name: str) -> bool:
    """Whether a file's name says that it describes data and holds none."""
    path = Path(name)
    stem = path.stem.split(".")[0].split("-")[0].lower() if path.suffix.lower() in _DOCUMENTS else path.name.lower()
    return path.name in _ABOUT_DATA or stem in _WELL_KNOWN


def _of_split(data: Mapping[str, Path], split: str, where: str, left_out: dict[str, str]) -> dict[str, Path]:
    splits = {name: split_of(name) for name in data}
    named = sorted({told for told in splits.values() if told})
    if not named:
        return dict(data)
    if untold := [name for name, told in splits.items() if not told]:
        told = next(name for name, told in splits.items() if told)
        raise DataError(
            f"the name of {quoted(told)} tells its split, and that of {quoted(untold[0])} does not",
            where=where,
            do="name the files one by one, or by a pattern",
        )
    if len(named) == 1 and (split == "train" or same_split(named[0], split)):
        return dict(data)
    wanted = [told for told in named if same_split(told, split)]
    if not wanted:
        raise DataError(
            f"no file of the split {quoted(split)}",
            where=where,
            do=f"set the source's split; there are: {cut(', '.join(named))}",
        )
    left_out |= {name: f"split {told}" for name, told in splits.items() if told not in wanted}
    return {name: path for name, path in data.items() if splits[name] in wanted}


def split_of(name: str) -> str:
    """The split that a file's name tells, or else the folders above it; empty where they tell none, or two.

    `train.jsonl`, `my_test.csv`, `trainset.jsonl` and `validation/0.parquet` tell it by a word. `train_sft-00000-of-00002.parquet`, as the Hub
    writes it, tells the split `train_sft`.
    """
    path = Path(name)
    stem = Path(path.stem).stem if path.suffix.lower() in PACKED else path.stem
    if (shard := _SHARD.fullmatch(stem)) and _told(last := shard[1].split("-")[-1]):
        return _WORDS.get(last, last)
    return next((found for text in (stem, *reversed(path.parts[:-1])) if (found := _told(text))), "")


def split_of_row(row: Mapping[str, object]) -> str:
    """The split that the column `split` of a row tells; empty where it has none, or tells none."""
    value = row.get("split")
    return _told(value) if isinstance(value, str) and _NAME.fullmatch(value.strip()) else ""


def split_among_rows(told: Collection[str], split: str, where: str) -> str:
    """Which of the splits that the rows of a source tell is read; empty: all rows, because all are of one split and none other was asked for.

    Args:
        told: What `split_of_row` gives for the rows, without the empty text.
        split: The source's split.
        where: The source, for the message.

    Raises:
        DataError: no row is of that split.
    """
    wanted = _told(split) or split
    if wanted in told:
        return wanted
    if split == "train" and len(told) == 1:
        return ""
    raise DataError(
        f"no row of the split {quoted(split)}",
        where=where,
        do=f"set the source's split; its column `split` tells: {cut(', '.join(sorted(told)))}",
    )


def same_split(name: str, split: str) -> bool:
    """Whether two names mean the same split: `val` and `dev` are `validation`."""
    return _WORDS.get(name.lower(), name) == _WORDS.get(split.lower(), split)


def _told(text: str) -> str:
    found = re.split(r"[^a-z]+", text.lower().replace("held_out", "heldout"))
    words = {_WORDS[word] for word in (_ENDING.sub("", word) for word in found) if word in _WORDS}
    return words.pop() if len(words) == 1 else ""


def listed(left_out: Mapping[str, str]) -> str:
    """Files that were left out, with the reasons, in one line; of many the first few. Those that nobody takes for data come last."""
    others = [f"{name} ({why})" for name, why in left_out.items() if why not in (HIDDEN, DESCRIBES)]
    describing = [name for name, why in left_out.items() if why == DESCRIBES]
    hidden = [name for name, why in left_out.items() if why == HIDDEN]
    found = [_first(others), _first(describing), f"{len(hidden)} hidden ({_first(hidden)})" if hidden else ""]
    return "; ".join(text for text in found if text)


def _first(names: Sequence[str]) -> str:
    return cut(", ".join(names[:LISTED])) + (f", and {len(names) - LISTED} more" if len(names) > LISTED else "")
