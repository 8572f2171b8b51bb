"""Methods that sample while they train, beside TRL's: same model, prompts, reward and budget, ours and theirs in turn in one run.

    python benchmarks/online_training.py --model DIR --prompts FILE [--methods grpo rloo online_dpo] [--answers 64] [--response 48]

DIR is a Hugging Face directory; FILE is a Parquet table with a column `prompt` of texts. The reward is the share of pleasant words, a function
that costs nothing. TRL gets an environment of its own in a temporary folder, unless `--trl-python` names one that has it. What is timed
(CPU seconds of the process) is all updates but the first: sampling, scoring, log-probabilities of policy and reference, steps; on our side
the states on disk, too. TRL samples all answers of an update at once and takes so many at a time through its forward passes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from online_methods import METHODS
from training import Worker, make_environment, shown, spread

OURS = "alignflow"


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompts", required=True)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--answers", type=int, default=64, help="answers of an update")
    parser.add_argument("--response", type=int, default=48, help="tokens of an answer, at most")
    parser.add_argument("--longest", type=int, default=200, help="characters of a prompt, at most")
    parser.add_argument("--updates", type=int, default=6)
    parser.add_argument("--learning-rate", type=float, default=1e-5)
    parser.add_argument("--rounds", type=int, default=2, help="how often each training is made")
    parser.add_argument("--at-a-time", type=int, nargs="+", default=[8, 64], help="TRL: answers of a forward pass")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--trl", default="1.16.0", help="version of TRL")
    parser.add_argument("--trl-python", help="a Python that has TRL, instead of making an environment")
    return parser.parse_args()


def measure(method: str, workers: dict[str, Worker], given: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Both sides in turn, `rounds` times."""
    found: dict[str, list[dict[str, Any]]] = {}
    for number in range(given.rounds):
        runs = {OURS: lambda: workers["ours"].run(task=method)}
        for size in given.at_a_time:
            runs[f"TRL, {size} at a time"] = lambda size=size: workers["theirs"].run(task=method, at_a_time=size)
        for label, run in runs.items():
            found.setdefault(label, []).append(run())
            print(f"{method}, round {number + 1}: {label}: {found[label][-1]}", file=sys.stderr, flush=True)
    return found


def lines_of(method: str, runs: dict[str, list[dict[str, Any]]], given: argparse.Namespace) -> list[str]:
    """Rows of the table."""
    answers, lines = given.answers * (given.updates - 1), []
    for label, results in runs.items():
        speeds = [answers / result["seconds"] for result in results]
        ratios = [other["seconds"] / ours["seconds"] for ours, other in zip(runs[OURS], results, strict=True)]
        gains = [
            (result["rewards"][-1] - result["rewards"][0]) / result["seconds"] * 60
            for result in results
            if len(result["rewards"]) > 1
        ]
        first, last = (statistics.mean(result["rewards"][place] for result in results) for place in (0, -1))
        lines.append(
            f"| {method} | {label} | {spread(speeds, 2)} | {'' if label == OURS else spread(ratios, 2)} | "
            f"{first:.3f} to {last:.3f} | {statistics.median(gains):.3f} | {results[-1]['length'] or '–'} |"
        )
    return lines


def main() -> None:
    """Run all methods in turn and print their table."""
    given = parse()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        (folder / "settings.json").write_text(json.dumps(vars(given)))
        python = given.trl_python or make_environment(folder)
        workers = {
            "ours": Worker(sys.executable, "online_training_ours.py", folder, given.threads),
            "theirs": Worker(python, "online_training_trl.py", folder, given.threads),
        }
        for worker in workers.values():
            stack.callback(worker.close)
        facts = workers["ours"].run(task="prepare")
        table = [line for method in given.methods for line in lines_of(method, measure(method, workers, given), given)]
    print(f"`python benchmarks/online_training.py {' '.join(shown(sys.argv[1:]))}`\n")
    print(
        f"{facts['model']}, {facts['prompts']} prompts; {given.answers} answers of at most {given.response} tokens an update, "
        f"{given.updates} updates, {given.rounds} rounds in turn, {given.threads} thread, fp32; trl {given.trl}.\n"
    )
    print(
        "| method | run | answers per CPU second | ratio | mean reward, first to last update | gain per CPU minute | tokens of an answer |"
    )
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    print("\n".join(table))


if __name__ == "__main__":
    main()
