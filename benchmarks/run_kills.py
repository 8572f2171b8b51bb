"""A whole run that is killed at random moments and run again leaves the artifacts of a run that nothing disturbs.

`python benchmarks/run_kills.py RECIPE [--set NAME=VALUE ...] [--until STEP] [--kills 10] [--seed 0] [--place DIR]`. The recipe runs once
undisturbed. A second store then gets the same run, killed with all of its processes at a random time after its first stage began, again
and again; the last start runs to its end. Prints which step each kill hit and what was already
there, and compares the digests of all artifacts. Exit status 1 where one differs, is lost or is doubled.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections import Counter
from pathlib import Path

from label_kills import kill, start

LIMIT_S = 3600


def digests(store: Path) -> Counter[tuple[str, str]]:
    """(stage, digest of the payload) of every artifact, and how many artifacts have them."""
    manifests = [json.loads(path.read_text()) for path in (store / "artifacts").glob("*/manifest.json")]
    return Counter((each["stage"], each["digest"]) for each in manifests)


def in_progress(store: Path) -> str:
    """The stages that have a staging area now."""
    found = sorted({path.name.split("-")[0] for path in (store / "staging").glob("*-*")})
    return ", ".join(found) or "between two stages"


def works(store: Path, since: float) -> bool:
    """Whether a stage has begun after a time (seconds since the epoch)."""
    for area in (store / "staging").glob("*-*"):
        try:
            if area.stat().st_mtime >= since:
                return True
        except FileNotFoundError:
            continue
    return False


def finish(recipe: Path, store: Path, words: list[str]) -> float:
    """Run to the end; returns the seconds that it took. Exits where the run fails."""
    begun = time.monotonic()
    if (code := start(recipe, store, words).wait(LIMIT_S)) != 0:
        raise SystemExit(f"the run failed with {code}: {store.parent / (store.name + '.log')}")
    return time.monotonic() - begun


def run_with_kills(
    recipe: Path, store: Path, words: list[str], kills: int, moments: random.Random, whole_s: float
) -> None:
    """Kill `kills` starts of a run, each at a moment of its own, then let it end."""
    hit = 0
    while hit < kills:
        begun = time.time()
        process = start(recipe, store, words)
        while process.poll() is None and not works(store, begun):
            time.sleep(0.02)
        # A start gets 1/(kills + 1) of the run's work done on average, so that the kills reach the whole run and not its first stages alone.
        moment = time.monotonic() + moments.random() * 2 * whole_s / (kills + 1)
        while process.poll() is None and time.monotonic() < moment:
            time.sleep(0.02)
        if process.poll() is not None:
            print(f"the run ended after {hit} of {kills} kills", flush=True)
            if process.returncode != 0:
                raise SystemExit(f"it failed with {process.returncode}: {store.parent / (store.name + '.log')}")
            return
        kill(process)
        hit += 1
        print(f"kill {hit}: {in_progress(store)}; {sum(digests(store).values())} artifacts done", flush=True)
    finish(recipe, store, words)


def main() -> None:
    """Print one line per kill and the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="settings")
    parser.add_argument("--until")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--place", type=Path, default=Path("run-kills"))
    given = parser.parse_args()
    place, recipe = given.place.absolute(), given.recipe.absolute()
    place.mkdir(parents=True)
    words = [word for setting in given.settings for word in ("--set", setting)]
    words += ["--until", given.until] if given.until else []
    whole_s = finish(recipe, place / "undisturbed", words)
    wanted = digests(place / "undisturbed")
    print(f"undisturbed: {sum(wanted.values())} artifacts in {whole_s:.0f} s", flush=True)
    run_with_kills(recipe, place / "killed", words, given.kills, random.Random(given.seed), whole_s)
    found = digests(place / "killed")
    for (stage, digest), count in sorted(((wanted - found) + (found - wanted)).items()):
        side = "undisturbed" if wanted[stage, digest] > found[stage, digest] else "killed"
        print(f"{stage} {digest[:12]}: {count} more in the {side} run")
    print("all digests equal" if wanted == found else "digests differ")
    raise SystemExit(wanted != found)


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main()
