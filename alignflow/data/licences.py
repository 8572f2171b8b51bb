"""Licences of what went in, by path: two files of one name in two folders keep their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePath

UNKNOWN = "unknown"


def licences_by_path(stated: Iterable[tuple[str, str]], known: Mapping[str, str] | None = None) -> dict[str, str]:
    """Path -> licence, over those that are known already.

    A path is written as short as tells it from the others: its last part, with as many folders before it as are needed. So no
    folder of one machine gets into a result. A path with two licences has both.

    Args:
        stated: Pairs of path or Hub id, and licence, as a recipe states them.
        known: Licences of the inputs, under such names.
    """
    by_path: dict[str, list[str]] = {}
    for path, licence in stated:
        by_path.setdefault(path, []).append(licence)
    found = dict(known or {})
    for path, licences in by_path.items():
        licence = "; ".join(dict.fromkeys(text for text in licences if text != UNKNOWN)) or UNKNOWN
        name = _short_name(path, licence, [other for other in by_path if other != path], known or {})
        found[name] = "; ".join(dict.fromkeys((known[name], licence))) if known and name in known else licence
    return found


def _short_name(path: str, licence: str, others: Iterable[str], known: Mapping[str, str]) -> str:
    taken = {name for name, text in known.items() if text != licence}
    parts, rivals = PurePath(path).parts, [PurePath(other).parts for other in others]
    for count in range(1, len(parts)):
        name = "/".join(parts[-count:])
        if name not in taken and not any(rival[-count:] == parts[-count:] for rival in rivals):
            return name
    return PurePath(path).as_posix() if len(parts) > 1 else path
