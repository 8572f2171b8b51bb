"""What a stage costs beyond its plain function, and what the start of its process is made of.

`python benchmarks/overhead.py [RECIPE] [--stages prepare label] [--pairs 5]`: makes sure that the recipe's results are in
a store of its own. Then it does each stage in turn as a task of a Prefect flow (lock, supervisor, process, hashing, publishing,
state), and by `python -m alignflow.worker` on the same spec by hand, which has the same interpreter, imports and body. The
difference of the medians is the overhead.

`python benchmarks/overhead.py --imports`: the CPU seconds of what each stage's process imports, by package.
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
from alignflow.data import catalogue
from alignflow.data.configs.loading import load_recipe
from alignflow.flows.calls import Caller
from alignflow.tasks.call import StageCall
from alignflow.tasks.launch import _environment
from alignflow.tasks.stage import make_spec
from alignflow.tasks.store import ArtifactStore

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
    if given.imports:
        list_imports()
    else:
        with tempfile.TemporaryDirectory() as folder:
            time_stages(given.recipe, given.stages, given.pairs, Path(folder) / "store")


def time_stages(recipe: str, stages: list[str], pairs: int, root: Path) -> None:
    """Do each stage `pairs` times in both ways, in turn."""
    environment = {**os.environ, "ALIGNFLOW_HOME": str(root)}
    subprocess.run([sys.executable, "-m", "alignflow", "run", recipe], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    configure_prefect(root)
    from prefect import flow

    store = ArtifactStore(root)
    calls = [call for call in made_calls(recipe, store) if call.name in stages]

    @flow(name="overhead", persist_result=False)
    def timed() -> dict[str, tuple[list[float], list[float]]]:
        seconds: dict[str, tuple[list[float], list[float]]] = {call.name: ([], []) for call in calls}
        for number in range(pairs + 1):
            for call in calls:
                task, plain = as_task(call, store), by_hand(call, store)
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
    from alignflow.tasks.stage_task import run_as_task

    started = time.monotonic()
    run_as_task(call, store, force=True)
    return time.monotonic() - started


def by_hand(call: StageCall, store: ArtifactStore) -> float:
    """Seconds of a worker that is given the same spec, with nobody around it."""
    with tempfile.TemporaryDirectory() as folder:
        area = Path(folder)
        spec = make_spec(call, store, area, force=True)
        for name in ("out", "side"):
            Path(spec[name]).mkdir(parents=True)
        spec |= {"work": str(area / "work"), "rows": str(area / "rows")}
        (area / "spec.json").write_text(json.dumps(spec))
        command = [sys.executable, "-m", "alignflow.worker", str(area / "spec.json")]
        started = time.monotonic()
        subprocess.run(command, env=_environment(), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return time.monotonic() - started


def list_imports() -> None:
    """Seconds of the imports of each stage's body, by package; those of one body's functions come later, and are not in it."""
    print("| stage | all, s | packages, s |\n| --- | --- | --- |")
    for stage, row in catalogue.STAGES.items():
        code = f"import alignflow.worker; import {row.address.partition(':')[0]}"
        environment = {**_environment(), "OMP_NUM_THREADS": "1"}
        done = subprocess.run([sys.executable, "-X", "importtime", "-c", code], env=environment, capture_output=True, text=True, check=True)
        packages: Counter[str] = Counter()
        for seconds, module in LINE.findall(done.stderr):
            packages[module.partition(".")[0]] += int(seconds) / 1e6
        listed = ", ".join(f"{name} {seconds:.2f}" for name, seconds in packages.most_common() if seconds >= SHOWN_S)
        print(f"| {stage} | {packages.total():.2f} | {listed} |")


if __name__ == "__main__":
    main()
