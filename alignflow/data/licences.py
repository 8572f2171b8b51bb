"""Licences of what went in, by path: two files of one name in two folders keep their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from alignflow.data.source_names import short_name

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
        taken = {name for name, text in (known or {}).items() if text != licence}
        name = short_name(path, [other for other in by_path if other != path], taken)
        found[name] = "; ".join(dict.fromkeys((known[name], licence))) if known and name in known else licence
    return found
