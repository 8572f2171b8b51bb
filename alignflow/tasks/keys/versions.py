"""The lock file of versions: the source behind each version, and the other parts that each part reaches.

`python -m alignflow.tasks.keys.versions` checks it; `--update` records raised versions and new parts;
`--neutral PART REASON` declares that a change of PART's source (or of all, with PART `all`) changes no result.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

from alignflow.data import shared_parts
from alignflow.data.shared_parts import VERSIONED
from alignflow.tasks.keys.fingerprint import Parts, part_name

LOCK = Path(shared_parts.__file__).parent / "versions.lock.json"


def current(parts: Parts | None = None) -> dict[str, dict[str, Any]]:
    """Version, fingerprint and reached parts of every part in the current source."""
    parts = parts or Parts()
    rows = {part_name(table, name): row for table, rows in VERSIONED.items() for name, row in rows.items()}
    return {
        part: {"version": row.version, "fingerprint": parts.fingerprint(part), "reaches": parts.reaches(part)}
        for part, row in rows.items()
    }


def recorded() -> dict[str, dict[str, Any]]:
    """The content of the lock file; empty if there is none."""
    return json.loads(LOCK.read_text()) if LOCK.exists() else {}


@cache
def reached_parts() -> dict[str, list[str]]:
    """For each part the other parts that its code reaches: from the lock file, which is fast, or from the source if the
    lock file is older than the catalogue."""
    locked, parts = recorded(), Parts()
    known = {
        part: entry["reaches"] for part, entry in locked.items() if set(entry.get("reaches", "?")) <= set(parts.names)
    }
    return {part: known[part] if part in known else parts.reaches(part) for part in parts.names}


def problems(locked: dict[str, dict[str, Any]], now: dict[str, dict[str, Any]]) -> list[str]:
    """One line per part whose source changed under the same version, or that is missing on one side."""
    lines = [f"{part}: not in the lock file (run with --update)" for part in sorted(now.keys() - locked.keys())]
    lines += [
        f"{part}: in the lock file but not in the catalogue (run with --update)"
        for part in sorted(locked.keys() - now.keys())
    ]
    for part in sorted(now.keys() & locked.keys()):
        if locked[part]["version"] != now[part]["version"]:
            lines.append(
                f"{part}: version {locked[part]['version']} -> {now[part]['version']} is not recorded (run with --update)"
            )
        elif locked[part]["fingerprint"] != now[part]["fingerprint"]:
            lines.append(
                f"{part}: its source changed: raise its version in the catalogue, or declare it neutral (--neutral {part} REASON)"
            )
        elif locked[part].get("reaches") != now[part]["reaches"]:
            lines.append(f"{part}: the parts that it reaches are not recorded (run with --update)")
    return lines


def update(neutral: str = "", reason: str = "") -> list[str]:
    """Write the lock file; returns the remaining problems: changed sources without a raised version or a neutral reason."""
    locked, now = recorded(), current()
    result = {}
    for part, found in now.items():
        before = locked.get(part)
        changed = (
            before is not None
            and before["version"] == found["version"]
            and before["fingerprint"] != found["fingerprint"]
        )
        if changed and neutral in (part, "all") and reason:
            result[part] = {**found, "neutral": [*before.get("neutral", []), reason][-5:]}  # type: ignore[union-attr]
        elif changed:
            result[part] = {**before, "reaches": found["reaches"]}  # type: ignore[dict-item]
        else:
            result[part] = {**(before or {}), **found} if before and before["version"] == found["version"] else found
    LOCK.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
    return problems(result, now)


def main() -> int:
    """Check or update the lock file; exit status 1 if a problem remains."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--neutral", nargs=2, metavar=("PART", "REASON"))
    arguments = parser.parse_args()
    if arguments.update or arguments.neutral:
        left = update(*(arguments.neutral or ("", "")))
    else:
        left = problems(recorded(), current())
    print("\n".join(left) or "versions.lock.json agrees with the source")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
