"""Starts the same work twice at once in two process pools, and counts how often each stage was done: it must be once.

`python benchmarks/double_start.py [--rounds 20] [--until STEP] [--shared] [--table FILE]`: a Prefect server, the pools `gpu` and
`cpu` with a worker each, and recipes/tiny.yaml with fewer steps and another seed in every round, so that each round is fresh
work. Odd rounds start the pipeline (to its end, or until STEP) once in each pool, and neither run waits for the other. Even
rounds start one stage by itself with a setting that is new, once in each pool: `prepare` and `sft` by turns. A round is good
when all its runs end as Completed, when of all task runs for one key exactly one did the work and the others found it, when
no second artifact of a key was set aside, and when every artifact is whole. The first round's recipe is also run alone in an
empty store, and must have the same digests. With `--shared` the store is one that machines share: leases in place of the
kernel's locks. FILE gets the table. Exit status 1: a round was not good, or a digest differs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignflow.data.sharing import Sharing
from alignflow.tasks.store.artifact_store import ArtifactStore

ROOT = Path(__file__).parents[1]
RECIPE = str(ROOT / "recipes" / "tiny.yaml")
POOLS = ("gpu", "cpu")
SMALL = (
    "sft.max_steps=2",
    "reward.max_steps=2",
    "align.max_steps=2",
    "sample.max_new_tokens=8",
    "evaluate.max_new_tokens=8",
    "evaluate.max_prompts=4",
)
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED", "PAUSED")
ROUND_S = 1200.0


@dataclass(frozen=True)
class Start:
    """One flow run to start: a deployment's flow, the pool to route it to, and its parameters."""

    flow: str
    pool: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Round:
    """What came of starts at once.

    Attributes:
        started: The flows that were started.
        runs: State of each flow run.
        made: Step and short key -> task runs that did the work.
        found: Task runs that found it done.
        expected: Step and short key -> 1 for what the store had not before, and 0 for what it had.
        second: Artifacts that were made a second time and set aside, in this round.
        damaged: Keys whose artifact is not whole, or missing.
        seconds: From the first start to the last end.
    """

    started: str
    runs: tuple[str, ...]
    made: Mapping[str, int]
    found: int
    expected: Mapping[str, int]
    second: int
    damaged: tuple[str, ...]
    seconds: float

    @property
    def good(self) -> bool:
        """Whether everything was done, and once."""
        completed = set(self.runs) == {"COMPLETED"}
        return completed and dict(self.made) == dict(self.expected) and not self.second and not self.damaged


class Api:
    """The server, as a page or a script uses it."""

    def __init__(self, url: str):
        self.url = url

    def ask(self, path: str, content: Any = None) -> Any:
        """GET, or POST of `content`; a server that is busy for a moment (503, or no answer in time) is asked again."""
        body = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(f"{self.url}{path}", body, {"content-type": "application/json"})
        for attempt in range(10):
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                if error.code != 503 or attempt == 9:
                    raise
            except TimeoutError:
                if attempt == 9:
                    raise
            time.sleep(2)
        raise AssertionError("unreachable")

    def route(self, flow: str, pool: str) -> str:
        """The id of the deployment of a flow in a pool: a copy of the registered one, made where it is missing."""
        known = {found["name"]: found for found in self.ask("/deployments/filter", {})}
        original = known[flow]
        if original["work_pool_name"] == pool:
            return original["id"]
        name = f"{flow} in {pool}"
        if name not in known:
            fields = ("flow_id", "entrypoint", "parameter_openapi_schema", "enforce_parameter_schema", "path")
            known[name] = self.ask(
                "/deployments/", {**{key: original[key] for key in fields}, "name": name, "work_pool_name": pool}
            )
        return known[name]["id"]

    def begin(self, start: Start) -> str:
        """Start a flow run; returns its id."""
        path = f"/deployments/{self.route(start.flow, start.pool)}/create_flow_run"
        once = {"idempotency_key": uuid.uuid4().hex}  # asked again, the server starts no further run
        return self.ask(path, {"parameters": dict(start.parameters), **once})["id"]

    def end(self, run: str) -> str:
        """Wait for a run's end; returns its state, or that which it has when the time is over."""
        end = time.monotonic() + ROUND_S
        while (state := self.ask(f"/flow_runs/{run}")["state_type"]) not in ENDED and time.monotonic() < end:
            time.sleep(1)
        return state

    def tasks(self, runs: Sequence[str]) -> list[tuple[str, str]]:
        """Name and state of every task run of some flow runs."""
        found = self.ask("/task_runs/filter", {"flow_runs": {"id": {"any_": list(runs)}}})
        return [(task["name"], task["state_name"]) for task in found]


def play(api: Api, store: ArtifactStore, starts: Sequence[Start]) -> Round:
    """Start everything at once, wait for all ends, and count."""
    before, set_aside = _keys(store), _second(store)
    for start in starts:
        api.route(start.flow, start.pool)
    started = ", ".join(start.flow for start in starts)
    begun = time.monotonic()
    runs = [api.begin(start) for start in starts]
    states = tuple(api.end(run) for run in runs)
    seconds = time.monotonic() - begun
    made: Counter[str] = Counter()
    found = 0
    for name, state in api.tasks(runs):
        step = " ".join(name.split()[:2])
        made[step] += state == "Completed"
        found += state == "Cached"
    after = _keys(store)
    damaged = [key for key in after.values() if store.verify(key)]
    damaged += [step for step in made if step.split()[1] not in after]
    expected = {step: int(step.split()[1] not in before) for step in made}
    return Round(started, states, made, found, expected, _second(store) - set_aside, tuple(damaged), seconds)


def _keys(store: ArtifactStore) -> dict[str, str]:
    """Short key -> key of every artifact."""
    return {manifest.key.rpartition("-")[2][:8]: manifest.key for manifest in store.manifests()}


def _second(store: ArtifactStore) -> int:
    return len(list((store.root / "quarantine").glob("*-second")))


def whole(seed: int, until: str | None = None, pools: Sequence[str] = POOLS) -> list[Start]:
    """The pipeline once in each pool; neither waits for the other's end, so that they meet at every stage."""
    selection = {"until": until} if until else {}
    parameters = {"recipe": RECIPE, "more": [f"seed={seed}", *SMALL], "wait": False, "selection": selection}
    return [Start("pipeline", pool, parameters) for pool in pools]


def single(number: int) -> list[Start]:
    """One stage by itself, once in each pool; it takes what it needs from the latest good run."""
    changes = {
        "prepare": f"data.heldout_fraction={0.2 + number / 1000}",
        "sft": f"sft.learning_rate={1e-3 + number * 1e-6}",
    }
    stage = tuple(changes)[number // 2 % 2]
    return [Start(stage, pool, {"recipe": RECIPE, "more": [*SMALL, changes[stage]]}) for pool in POOLS]


@contextlib.contextmanager
def served(root: Path, url: str | None = None) -> Iterator[Api]:
    """A server on a free port (or the one at `url`), its two pools with a worker each, and every flow registered."""
    environment = {
        **os.environ,
        "PREFECT_HOME": str(root / "prefect"),
        "ALIGNFLOW_HOME": str(root / "store"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "DO_NOT_TRACK": "1",
        "PREFECT_LOGGING_LEVEL": "WARNING",
    }
    prefect = [sys.executable, "-m", "prefect"]
    with contextlib.ExitStack() as stack, open(root / "processes.log", "w") as log:

        def start(*command: str) -> None:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
            stack.callback(_stop, process)

        if url is None:
            port = _free_port()
            url = f"http://127.0.0.1:{port}/api"
            start(*prefect, "server", "start", "--host", "127.0.0.1", "--port", str(port))
            _wait_for(url)
        environment["PREFECT_API_URL"] = url
        for pool in POOLS:
            subprocess.run(
                [*prefect, "work-pool", "create", "--type", "process", pool],
                env=environment,
                check=True,
                capture_output=True,
            )
        register = [sys.executable, "-m", "alignflow.flows.deployments", *(f"{pool}={pool}" for pool in POOLS)]
        subprocess.run(register, env=environment, check=True, capture_output=True, cwd=ROOT)
        for pool in POOLS:
            start(*prefect, "worker", "start", "--pool", pool, "--name", pool)
        yield Api(url)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _wait_for(url: str) -> None:
    end = time.monotonic() + 180
    while True:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=5)
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


def _stop(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def differing(store: ArtifactStore, root: Path, until: str | None) -> list[str]:
    """Keys of the first round whose digest an undisturbed run of its recipe in an empty store does not have."""
    alone = root / "alone"
    environment = {
        **os.environ,
        "ALIGNFLOW_HOME": str(alone),
        "PREFECT_HOME": str(root / "prefect-alone"),
        "DO_NOT_TRACK": "1",
    }
    settings = [word for setting in ("seed=1", *SMALL) for word in ("--set", setting)]
    settings += ["--until", until] if until else []
    command = [sys.executable, "-m", "alignflow", "run", RECIPE, *settings]
    subprocess.run(command, env=environment, check=True, capture_output=True, cwd=ROOT)
    expected = {manifest.key: manifest.digest for manifest in ArtifactStore(alone).manifests()}
    ours = {manifest.key: manifest.digest for manifest in store.manifests()}
    return [key for key, digest in expected.items() if ours.get(key) != digest]


HEAD = ("round", "started at once", "completed", "stages made", "not made once", "found", "made twice", "seconds")


def row(number: int, round_: Round) -> str:
    """A round as a line of the table."""
    wrong = sum(round_.made.get(step) != times for step, times in round_.expected.items())
    completed = f"{round_.runs.count('COMPLETED')} of {len(round_.runs)}"
    cells = (
        number,
        round_.started,
        completed,
        sum(round_.made.values()),
        wrong,
        round_.found,
        round_.second,
        f"{round_.seconds:.0f}",
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the rounds; 1 where one was not good."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--until", metavar="STEP", help="how far the pipeline goes")
    parser.add_argument("--shared", action="store_true", help="in a store that machines share")
    parser.add_argument("--table", type=Path, help="a file for the table")
    asked = parser.parse_args(arguments)
    lines = [f"| {' | '.join(HEAD)} |", "|" + " --- |" * len(HEAD)]
    bad = 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that server and workers end with us
    with tempfile.TemporaryDirectory(prefix="double-start-") as folder:
        root = Path(folder)
        store = ArtifactStore(root / "store")
        if asked.shared:
            store.share(Sharing())
        print("\n".join(lines), flush=True)
        with served(root) as api:
            for number in range(1, asked.rounds + 1):
                played = play(api, store, whole(number, asked.until) if number % 2 else single(number))
                bad += not played.good
                lines.append(row(number, played))
                print(lines[-1] if played.good else f"{lines[-1]}\n{played}", flush=True)
                if asked.table:
                    asked.table.write_text("\n".join(lines) + "\n")
        other = differing(store, root, asked.until)
    print(
        f"{asked.rounds - bad} of {asked.rounds} rounds were good; digests that differ from a run alone: {len(other)} {' '.join(other)}"
    )
    return int(bool(bad or other))


if __name__ == "__main__":
    sys.exit(main())
