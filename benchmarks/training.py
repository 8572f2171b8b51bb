"""Training speed and memory beside TRL: same model, rows, precision and threads, ours and theirs in turn in one run.

    python benchmarks/training.py --model DIR --demonstrations FILE --preferences FILE [--quick] [--write docs/measurements/benchmarks.md]

DIR is a Hugging Face directory; the files are Parquet tables with TRL's columns (prompt, completion; prompt, chosen,
rejected; text). TRL gets an environment of its own in a temporary folder, with this one's version of torch, unless
`--trl-python` names one that has it. Both sides get the same token ids: what is timed (CPU seconds of the process) is
training alone, without start, loading, tokenising and saving. `--quick` takes few rows and two rounds.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from training_methods import CASES, Runs

HERE = Path(__file__).parent
MEASURES = ("seconds", "tokens", "memory_mb", "process_mb")
MARKS = ("<!-- training: begin -->", "<!-- training: end -->")


class Worker:
    """A process that has its libraries loaded and does one run per line."""

    def __init__(self, python: str, script: str, folder: Path, threads: int):
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
        }
        environment["THP_MEM_ALLOC_ENABLE"] = "1"  # as our stages have it; TRL gets it too
        environment["PYTHONPATH"] = str(HERE.parent) if python == sys.executable else ""
        self._log = open(folder / f"{script}.log", "w")  # noqa: SIM115 (closed with the worker)
        self._process = subprocess.Popen(
            [python, str(HERE / script), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
        )

    def run(self, **request: Any) -> dict[str, Any]:
        """Do a run and return what it measured; raises RuntimeError where the worker ended."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("RESULT "):
                return json.loads(line.removeprefix("RESULT "))
        raise RuntimeError(
            f"the worker ended; its log is {self._log.name}:\n{Path(self._log.name).read_text()[-3000:]}"
        )

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(60)
        self._log.close()


def main() -> None:
    """Run all cases in turn and print, or write, their tables."""
    arguments = parse()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        settings = {name: value for name, value in vars(arguments).items() if isinstance(value, str | int | None)}
        settings |= {"learning_rate": 1e-5, "logging_steps": 5}
        (folder / "settings.json").write_text(json.dumps(settings))
        workers = {"ours": Worker(sys.executable, "training_ours.py", folder, arguments.threads)}
        stack.callback(workers["ours"].close)
        facts = workers["ours"].run(task="prepare")
        chosen = {name: case for name, case in CASES.items() if any(text in name for text in arguments.case)}
        if any(side == "theirs" for _, runs in chosen.values() for _, side, _ in runs):
            workers["theirs"] = Worker(
                arguments.trl_python or make_environment(folder), "training_trl.py", folder, arguments.threads
            )
            stack.callback(workers["theirs"].close)
        text = report(
            arguments, facts, {name: measure(case, workers, arguments.rounds) for name, case in chosen.items()}
        )
    print(text)
    if arguments.write:
        write(Path(arguments.write), text)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--demonstrations", required=True)
    parser.add_argument("--preferences", required=True)
    parser.add_argument("--rows", type=int, help="rows of each table")
    parser.add_argument("--rounds", type=int, help="how often each run is made")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--micro-batch-tokens", type=int, default=2048)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--trl", default="1.16.0", help="version of TRL")
    parser.add_argument("--trl-python", help="a Python that has TRL, instead of making an environment")
    parser.add_argument("--case", nargs="+", default=[""], help="only cases whose name holds one of these texts")
    parser.add_argument("--quick", action="store_true", help="64 rows, two rounds")
    parser.add_argument("--write", help="a Markdown file whose marked part is replaced")
    arguments = parser.parse_args()
    arguments.rows = arguments.rows or (64 if arguments.quick else 192)
    arguments.rounds = arguments.rounds or (2 if arguments.quick else 3)
    return arguments


def make_environment(folder: Path) -> str:
    """A virtual environment with TRL and this environment's torch and transformers; returns its Python."""
    settings = json.loads((folder / "settings.json").read_text())
    print("making an environment for TRL: some minutes", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", str(folder / "trl")], check=True)
    pinned = [f"{name}=={importlib.metadata.version(name)}" for name in ("torch", "transformers")]
    python = folder / "trl" / "bin" / "python"
    subprocess.run(
        [str(python), "-m", "pip", "install", "-q", *pinned, f"trl=={settings['trl']}"], check=True, stdout=sys.stderr
    )
    return str(python)


def measure(case: tuple[str, Runs], workers: dict[str, Worker], rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Every run of a case, `rounds` times in turn."""
    task, runs = case
    found: dict[str, list[dict[str, Any]]] = {label: [] for label, _, _ in runs}
    for number in range(rounds):
        for label, side, setting in runs:
            found[label].append(workers[side].run(**{"task": task, **setting}))
            measures = {name: round(found[label][-1][name], 2) for name in MEASURES}
            print(f"round {number + 1}: {label}: {measures}", file=sys.stderr, flush=True)
    return found


def report(
    arguments: argparse.Namespace, facts: dict[str, Any], cases: dict[str, dict[str, list[dict[str, Any]]]]
) -> str:
    """Markdown tables."""
    lines = [
        f"`python benchmarks/training.py {' '.join(shown(sys.argv[1:]))}`",
        "",
        f"{facts['model']}; {facts['text']}; {arguments.precision}, {arguments.threads} thread, batch {arguments.batch_size}, "
        f"{arguments.rounds} rounds in turn; {facts['versions']}, trl {arguments.trl}. Speed: supervised tokens per CPU second, median "
        "(lowest to highest). Memory: peak above the loaded model, and of the whole process. Ratio: speed of the first line over this one, median of the rounds "
        "(lowest to highest).",
        "",
        "| case | run | tokens per CPU second | peak memory, MB | of the process | ratio |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for name, runs in cases.items():
        first = next(iter(runs.values()))
        for label, results in runs.items():
            speeds = [result["tokens"] / result["seconds"] for result in results]
            ratios = [ours["tokens"] / ours["seconds"] / speed for ours, speed in zip(first, speeds, strict=True)]
            memory, process = (
                statistics.median(result[name] for result in results) for name in ("memory_mb", "process_mb")
            )
            ratio = "" if results is first else spread(ratios, 2)
            lines.append(f"| {name} | {label} | {spread(speeds, 0)} | {memory:.0f} | {process:.0f} | {ratio} |")
    return "\n".join(lines) + "\n"


def spread(values: list[float], digits: int) -> str:
    """Median, and lowest to highest."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def shown(words: list[str]) -> list[str]:
    """The command's words, paths by their last part."""
    kept = [Path(word).name if "/" in word else word for word in words]
    places = [index for index, word in enumerate(kept) if word in ("--trl-python", "--write")]
    return [word for index, word in enumerate(kept) if index not in places and index - 1 not in places]


def write(path: Path, text: str) -> None:
    """Put the text between the marks of a page, after what other models' runs left there."""
    page = path.read_text()
    begin, end = (page.index(mark) for mark in MARKS)
    path.write_text(page[: begin + len(MARKS[0])] + "\n" + text + page[end:])


if __name__ == "__main__":
    main()
