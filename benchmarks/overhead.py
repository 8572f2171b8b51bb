"""What a stage costs beyond its plain function, and what the start of its process is made of.

`python benchmarks/overhead.py [RECIPE] [--stages prepare label] [--pairs 5]`: makes sure that the recipe's results are in
a store of its own. Then it does each stage in turn as a task of a Prefect flow (lock, supervisor, process, hashing, publishing,
state), and by `python -m alignflow.worker` on the same spec by hand, which has the same interpreter, imports and body. The
difference of the medians is the overhead.

`python benchmarks/overhead.py --imports`: what each stage's process imports until it ends, by package, in seconds of Python's
`-X importtime`, which are longer than those without it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from alignflow.cli.settings import configure_prefect
from alignflow.cli.shown import start_own_server
from alignflow.data.configs.loading import load_recipe
from alignflow.flows.calls import Caller
from alignflow.tasks.launch.call import StageCall
from alignflow.tasks.launch.child import spec_environment
from alignflow.tasks.launch.stage import make_spec
from alignflow.tasks.store.artifact_store import ArtifactStore

ROOT = Path(__file__).parents[1]
LINE = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s*([\w.]+)")
SHOWN_S = 0.05


def main() -> None:
    """Time stages in pairs, or list imports; prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="recipes/tiny.yaml")
    parser.add_argument("--stages", nargs="+", default=["prepare", "label", "report"])
    parser.add_argument("--pairs", type=int, default=5, help="how often each is timed")
    parser.add_argument("--imports", action="store_true", help="list what the stages' processes import instead")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "store"
        command = [sys.executable, "-m", "alignflow", "run", given.recipe]
        subprocess.run(
            command, cwd=ROOT, env={**os.environ, "ALIGNFLOW_HOME": str(root)}, check=True, stdout=subprocess.DEVNULL
        )
        store = ArtifactStore(root)
        calls = made_calls(given.recipe, store)
        if given.imports:
            list_imports(calls, store)
        else:
            time_stages([call for call in calls if call.name in given.stages], given.pairs, store)


def time_stages(calls: list[StageCall], pairs: int, store: ArtifactStore) -> None:
    """Do each stage `pairs` times in both ways, in turn."""
    if not configure_prefect(store.root):
        start_own_server(store, print).wait()
    from prefect import flow

    @flow(name="overhead", persist_result=False)
    def timed() -> dict[str, tuple[list[float], list[float]]]:
        seconds: dict[str, tuple[list[float], list[float]]] = {call.name: ([], []) for call in calls}
        for number in range(pairs + 1):
            for call in calls:
                task, plain = as_task(call, store), by_hand(call, store)[0]
                if number:  # the first pair warms the disk's cache
                    seconds[call.name][0].append(task)
                    seconds[call.name][1].append(plain)
        return seconds

    print("| stage | as a task, s | by hand, s | overhead, s |\n| --- | --- | --- | --- |")
    for name, (task, plain) in timed().items():
        print(
            f"| {name} | {_shown(task)} | {_shown(plain)} | {statistics.median(a - b for a, b in zip(task, plain, strict=True)):.2f} |"
        )


def _shown(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f})"


def made_calls(recipe: str, store: ArtifactStore) -> list[StageCall]:
    """The calls of a recipe whose results are in the store."""
    caller, made, calls = Caller(load_recipe(ROOT / recipe), store), {}, []
    for node in caller.nodes:
        call = caller.call(node, made)
        made[node.name] = store.manifest(call.key).ref()
        calls.append(call)
    return calls


def as_task(call: StageCall, store: ArtifactStore) -> float:
    """Seconds of the stage, done again, as a task of the flow that runs now."""
    from alignflow.tasks.launch.stage_task import run_as_task

    started = time.monotonic()
    run_as_task(call, store, force=True)
    return time.monotonic() - started


def by_hand(call: StageCall, store: ArtifactStore, options: tuple[str, ...] = ()) -> tuple[float, str]:
    """Seconds of a worker that is given the same spec, with nobody around it, and what it wrote to standard error."""
    with tempfile.TemporaryDirectory() as folder:
        area = Path(folder)
        spec = make_spec(call, store, area, force=True)
        for name in ("out", "side"):
            Path(spec[name]).mkdir(parents=True)
        spec |= {"work": str(area / "work"), "rows": str(area / "rows")}
        (area / "spec.json").write_text(json.dumps(spec))
        command = [sys.executable, "-P", *options, "-m", "alignflow.worker", str(area / "spec.json")]
        started = time.monotonic()
        done = subprocess.run(command, env=spec_environment(spec), check=True, capture_output=True, text=True)
        return time.monotonic() - started, done.stderr


def list_imports(calls: list[StageCall], store: ArtifactStore) -> None:
    """Seconds of all imports of each stage's process, by package, and of the process as a whole without that list."""
    print("| stage | process, s | imports, s | packages, s |\n| --- | --- | --- | --- |")
    for call in calls:
        whole, _ = by_hand(call, store)
        packages: Counter[str] = Counter()
        for seconds, module in LINE.findall(by_hand(call, store, ("-X", "importtime"))[1]):
            packages[module.partition(".")[0]] += int(seconds) / 1e6
        listed = ", ".join(f"{name} {seconds:.2f}" for name, seconds in packages.most_common() if seconds >= SHOWN_S)
        print(f"| {call.name} | {whole:.2f} | {packages.total():.2f} | {listed} |")


if __name__ == "__main__":
    main()
