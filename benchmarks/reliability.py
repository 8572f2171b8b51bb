"""Kills trainings with SIGKILL at random moments, resumes them, and compares what they leave with undisturbed ones.

`python benchmarks/reliability.py [--kills 25] [--kinds sft reward dpo ppo grpo] [--processes 1 2] [--seed 0] [--table FILE]`: on
tiny inputs that it makes itself, each stage body runs once undisturbed, through the same supervised launch that a flow uses.
Then it is run, killed and run again, up to five times before it may end (a chain), and the digest of its payload must be
that of the undisturbed run. Of the five moments three are drawn uniformly over the time that the run still needs, from the
interpreter's start on; two wait from there for a phase that would be hit rarely. FILE gets the tables, FILE with the ending
.jsonl every kill; cells that stand there are not run again. Exit status 1: a digest differs, or a process was left.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kill_cells import ANY, KINDS, PHASES, WRITING, Cell, Left, make_inputs

from alignflow.data.errors import StageError

POLL_S, START_POLL_S = 0.002, 0.03  # how often a run is looked at, and while it starts, when looking would slow it down
AFTER_S = 0.01  # a kill that waited for a phase comes up to so much later
ORPHAN_S = 3.0  # how long a process may live when the launch that it belonged to has ended
# Who is hit, and how often of ten: a rank, the launcher of several ranks, the supervisor, or all of them at once.
VICTIMS = {"rank": 6, "launcher": 1, "supervisor": 1, "all": 2}


@dataclass(frozen=True)
class Undisturbed:
    """A run that nothing disturbs: what it left, seconds until its loop began, seconds in all."""

    left: Left
    start_s: float
    total_s: float


@dataclass(frozen=True)
class Draw:
    """How the moment of a kill is chosen: uniformly over the expected time (`any`), or waiting for a phase from such a moment on."""

    aim: str
    chance: random.Random
    pace: Pace


@dataclass(frozen=True)
class Kill:
    """One kill: in which phase it came, whether a state was being written, who was hit, how many steps had a state by then."""

    phase: str
    writing: bool
    whom: str
    aim: str
    after_s: float
    steps: int


@dataclass
class Outcome:
    """What the kills of a cell did.

    Attributes:
        cell: KIND-PROCESSES.
        seed: Of moments and victims.
        undisturbed_s: Seconds of the undisturbed run.
        kills: Each of them.
        runs: Runs that were killed, resumed and came to their end.
        equal: Of these, how many left the digest of the undisturbed run.
        figures_equal: How many had its metrics and curves too.
        late: Moments that came after the end, and were drawn again.
        orphans: Processes that lived on after a launch.
        seconds: Of all runs together.
    """

    cell: str
    seed: int
    undisturbed_s: float
    kills: list[Kill] = field(default_factory=list)
    runs: int = 0
    equal: int = 0
    figures_equal: int = 0
    late: int = 0
    orphans: int = 0
    seconds: float = 0.0


def undisturbed(cell: Cell, key: str = "undisturbed") -> Undisturbed:
    """Run a cell to its end, and time it."""
    attempt = Attempt(cell, key)
    while cell.doing(key)[0] == "start-up" and not attempt.ended:
        time.sleep(START_POLL_S)
    start_s = attempt.seconds
    result = attempt.result()
    assert result is not None
    return Undisturbed(cell.left(key, result), start_s, attempt.seconds)


def kill_and_resume(cell: Cell, expected: Undisturbed, kills: int, seed: int, reach: float = 1.0) -> Outcome:
    """Kill a cell's runs `kills` times in chains of at most CHAIN, and compare what they leave.

    Args:
        cell: What to run.
        expected: Its undisturbed run.
        kills: How many kills.
        seed: Of all moments and victims.
        reach: A moment is drawn up to this share of the time that a run is expected to need still.
    """
    outcome, chance, began = (
        Outcome(cell.name, seed, round(expected.total_s, 1)),
        random.Random(f"{seed}/{cell.name}"),
        time.monotonic(),
    )
    draw_up_to = Pace(expected, reach)
    while len(outcome.kills) < kills:
        key = f"killed-{outcome.runs}"
        aims = cell.kind.aims[outcome.runs % len(cell.kind.aims)][: kills - len(outcome.kills)]
        left = cell.left(key, _chain(cell, key, [Draw(aim, chance, draw_up_to) for aim in aims], outcome))
        outcome.runs += 1
        outcome.equal += left.digest == expected.left.digest
        outcome.figures_equal += left == expected.left
    outcome.seconds = round(time.monotonic() - began, 1)
    return outcome


def _chain(cell: Cell, key: str, draws: list[Draw], outcome: Outcome) -> dict[str, Any]:
    """Run, kill and run again until the aims are used up or a run was faster than its kill; returns the result of the last run."""
    for draw in [*draws, None]:
        attempt, share = Attempt(cell, key), 1 - cell.done(key) / cell.steps
        kill = _kill(attempt, draw, share) if draw else None
        result = attempt.result(killed=kill is not None)
        outcome.orphans += _orphans(cell.area(key))
        if result is not None:
            outcome.late += draw is not None
            draws[0].pace.learn(share, attempt.seconds)
            return result
        assert kill is not None
        outcome.kills.append(kill)
        print(
            f"{cell.name} kill {len(outcome.kills)}: {kill.whom} in {kill.phase} after {kill.after_s:.1f} s",
            file=sys.stderr,
            flush=True,
        )
    raise AssertionError("the last run is not killed")


class Pace:
    """How long a run is expected to take from a state on; the machine has other work at times, so each end corrects it."""

    def __init__(self, expected: Undisturbed, reach: float):
        self._expected, self._factor, self.reach = expected, 1.0, reach

    def seconds(self, share: float) -> float:
        """Of an attempt that has this share of the steps to do."""
        return self._factor * (self._expected.start_s + share * (self._expected.total_s - self._expected.start_s))

    def learn(self, share: float, seconds: float) -> None:
        """Take in how long such an attempt took."""
        self._factor *= seconds / self.seconds(share)


class Attempt:
    """One launch of a cell under a key, in a thread."""

    def __init__(self, cell: Cell, key: str):
        self.cell, self.key = cell, key
        self._result: dict[str, Any] | None = None
        self._error: Exception | None = None
        self._began, self._ended = time.monotonic(), 0.0
        shutil.rmtree(cell.area(key), ignore_errors=True)  # what the last one left must not be taken for this one's
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self.cell.launch(self.key)
        except Exception as error:  # noqa: BLE001 (it is raised where the result is asked for)
            self._error = error
        self._ended = time.monotonic()

    @property
    def ended(self) -> bool:
        """Whether the launch has returned."""
        return not self._thread.is_alive()

    @property
    def seconds(self) -> float:
        """Since the start, or from start to end."""
        return (self._ended or time.monotonic()) - self._began

    def result(self, killed: bool = False) -> dict[str, Any] | None:
        """Wait for the end; None where it was killed. Raises whatever else ended it."""
        self._thread.join()
        if self._error is not None and not (killed and isinstance(self._error, StageError)):
            raise self._error
        return self._result

    def processes(self) -> dict[int, str]:
        """Processes of this launch that live: id -> supervisor, launcher (of several ranks) or rank."""
        return {pid: _role(pid, self.cell.processes) for pid in _alive(self.cell.area(self.key))}


def _kill(attempt: Attempt, draw: Draw, share: float) -> Kill | None:
    """Wait for the drawn moment of an attempt that has this share of the steps to do, and kill; None where it ended before."""
    cell, key, chance = attempt.cell, attempt.key, draw.chance
    moment = chance.uniform(0.0, draw.pace.seconds(share) * draw.pace.reach)
    extra, whom, pick = (
        chance.uniform(0.0, AFTER_S),
        chance.choices(list(VICTIMS), list(VICTIMS.values()))[0],
        chance.random(),
    )
    while attempt.seconds < moment and not attempt.ended:
        time.sleep(min(0.05, max(0.0, moment - attempt.seconds)))
    if draw.aim != ANY:
        while not attempt.ended and cell.doing(key)[0] == "start-up":
            time.sleep(START_POLL_S)
    while (
        not (found := attempt.processes()) and not attempt.ended
    ):  # takes some milliseconds, in which a phase may pass
        pass
    if draw.aim != ANY:
        while not attempt.ended and not _is(draw.aim, cell.doing(key)):
            time.sleep(POLL_S)
        time.sleep(extra)
    phase, writing = cell.doing(key)
    if attempt.ended or not found:
        return None
    group = (
        [pid for pid, role in found.items() if role == whom]
        or [pid for pid, role in found.items() if role != "supervisor"]
        or list(found)
    )
    victims = list(found) if whom == "all" else [sorted(group)[int(pick * len(group))]]
    for pid in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    hit = "all" if whom == "all" else found[victims[0]]
    return Kill(phase, writing, hit, draw.aim, round(attempt.seconds, 2), cell.done(key))


def _is(aim: str, doing: tuple[str, bool]) -> bool:
    return doing[1] if aim == WRITING else doing[0] == aim


def _alive(area: Path) -> list[int]:
    """Processes whose command line names the spec of an area; those that wait to be reaped do not count."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                named = str(area / "spec.json").encode() in (entry / "cmdline").read_bytes().split(b"\0")
                if named and (entry / "stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX":
                    found.append(int(entry.name))
    return found


def _role(pid: int, processes: int) -> str:
    """Supervisor, launcher (of several ranks) or rank."""
    with contextlib.suppress(OSError):
        if b"supervise.py" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return "supervisor"
        if processes > 1 and b"\0RANK=" not in Path(f"/proc/{pid}/environ").read_bytes():
            return "launcher"
    return "rank"


def _orphans(area: Path) -> int:
    """Processes of a launch that has ended which do not end by themselves; they are ended here."""
    end = time.monotonic() + ORPHAN_S
    while (left := _alive(area)) and time.monotonic() < end:
        time.sleep(0.02)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(left)


def main() -> int:
    """Run the cells that are not recorded yet and write the tables of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=25, help="of each cell")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--engine", default="deepspeed", help="deepspeed, or torch (one process)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", type=Path, help="Markdown file of the tables; without it they are printed")
    given = parser.parse_args()
    record = given.table.with_suffix(".jsonl") if given.table else None
    outcomes = [json.loads(line) for line in record.read_text().splitlines()] if record and record.exists() else []
    with tempfile.TemporaryDirectory() as home:
        root, wanted = Path(home), [(kind, count) for kind in given.kinds for count in given.processes]
        missing = [
            pair for pair in wanted if not any(outcome["cell"] == f"{pair[0]}-{pair[1]}" for outcome in outcomes)
        ]
        inputs = make_inputs(root) if missing else {}
        for kind, count in missing:
            cell = Cell(root, inputs, kind, count, given.engine)
            outcome = asdict(kill_and_resume(cell, undisturbed(cell), given.kills, given.seed))
            outcomes.append(outcome)
            if record:
                with record.open("a") as file:
                    file.write(json.dumps(outcome) + "\n")
    text = tables(outcomes)
    print(text)
    if given.table:
        given.table.write_text(text)
    return int(any(outcome["equal"] < outcome["runs"] or outcome["orphans"] for outcome in outcomes))


def tables(outcomes: Sequence[Mapping[str, Any]]) -> str:
    """Three tables in Markdown: what came out, what the runs were doing when they were killed, and who was hit."""
    order = {
        f"{kind}-{count}": number
        for number, (count, kind) in enumerate((count, kind) for kind in KINDS for count in range(1, 9))
    }
    outcomes = sorted(outcomes, key=lambda outcome: order[outcome["cell"]])
    columns = (
        "seed",
        "kills",
        "runs",
        "digests equal",
        "figures equal",
        "orphans",
        "drawn again",
        "undisturbed, s",
        "all runs, s",
    )
    first = [
        [
            outcome["seed"],
            len(outcome["kills"]),
            outcome["runs"],
            outcome["equal"],
            outcome["figures_equal"],
            outcome["orphans"],
            outcome["late"],
            round(outcome["undisturbed_s"]),
            round(outcome["seconds"]),
        ]
        for outcome in outcomes
    ]
    doing, hit = (
        [Counter(kill[name] for kill in outcome["kills"]) for outcome in outcomes] for name in ("phase", "whom")
    )
    writing = [sum(kill["writing"] for kill in outcome["kills"]) for outcome in outcomes]
    second = [[*(counts[phase] for phase in PHASES), number] for counts, number in zip(doing, writing, strict=True)]
    third = [[counts[whom] for whom in VICTIMS] for counts in hit]
    names = [outcome["cell"] for outcome in outcomes]
    return "\n".join(
        _table(names, *pair)
        for pair in ((columns, first), ((*PHASES, "writing a state"), second), (tuple(VICTIMS), third))
    )


def _table(names: Sequence[str], columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    head = ["training", "processes", *columns]
    lines = [head, ["---"] * len(head), *([*name.split("-"), *row] for name, row in zip(names, rows, strict=True))]
    return "".join("| " + " | ".join(str(value) for value in line) + " |\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
