"""Names of sources in tables and messages: as short as tells one from another, so that no folder of one machine gets into a result."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import PurePath

from alignflow.data.configs.inputs import SOURCE_KINDS, PrepareConfig, SourceConfig

Place = tuple[str, str]
"""Path or Hub id, and split."""


def source_names(config: PrepareConfig, sources: Iterable[SourceConfig] = ()) -> Mapping[Place, str]:
    """(path, split) -> name, of all sources of a config and of some more.

    A name is the last part of the path, with as many folders before it as tell it from the other paths. Two splits of one path
    are told apart by the split in brackets. One path under several kinds has one name.
    """
    kinds = [getattr(config, kind) for kind in SOURCE_KINDS]
    places = dict.fromkeys((source.path, source.split) for given in (*kinds, tuple(sources)) for source in given)
    paths = dict.fromkeys(path for path, _ in places)
    short: dict[str, str] = {}
    for path in paths:
        short[path] = short_name(path, [other for other in paths if other != path], short.values())
    splits = {path: {split for other, split in places if other == path} for path in paths}
    return {
        (path, split): f"{short[path]} [{split}]" if len(splits[path]) > 1 else short[path] for path, split in places
    }


def short_name(path: str, others: Iterable[str], taken: Collection[str] = ()) -> str:
    """The shortest end of a path that no other path ends with, and that is no name in `taken`.

    Where every end is one of those (`/data/train.jsonl` beside `/old/data/train.jsonl`), it is the whole path without its root, with a
    number behind it if that is in `taken`.
    """
    names, rivals = list(_ends(path)), {end for other in others for end in _ends(other)}
    free = next((name for name in names if name not in rivals and name not in taken), "")
    return free or next(name for name in _numbered(names[-1]) if name not in taken)


def _ends(path: str) -> Iterator[str]:
    pure = PurePath(path)
    parts = pure.relative_to(pure.anchor).parts or (str(pure),)
    return ("/".join(parts[-count:]) for count in range(1, len(parts) + 1))


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name} ({number})"
        number += 1
