"""Losses of each optimizer step beside TRL's: same weights, token ids, order of rows and hyper-parameters.

    python benchmarks/loss_curves.py --model DIR --demonstrations FILE --preferences FILE [--write docs/measurements/benchmarks.md]

DIR and the files are those of training.py, which also says how TRL gets an environment. Both sides take the rows in the order of our
seed. For each method the table has the largest relative difference of the loss and of the gradient's norm over the steps, beside TRL as
it is and, where a definition differs, beside TRL with that definition changed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from training import Worker, make_environment, shown
from training_methods import CURVES

MARKS = ("<!-- loss curves: begin -->", "<!-- loss curves: end -->")


def main() -> None:
    """Run all methods on both sides and print, or write, the table."""
    arguments = parse()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        (folder / "settings.json").write_text(json.dumps(settings(arguments)))
        ours = Worker(sys.executable, "training_ours.py", folder, arguments.threads)
        stack.callback(ours.close)
        facts = ours.run(task="prepare")
        theirs = Worker(arguments.trl_python or make_environment(folder), "training_trl.py", folder, arguments.threads)
        stack.callback(theirs.close)
        lines = [
            line
            for method in CURVES
            if method in arguments.methods
            for line in compared(method, ours.run(task=method)["curve"], theirs)
        ]
    text = report(arguments, facts, lines)
    print(text)
    if arguments.write:
        page = Path(arguments.write).read_text()
        begin, end = (page.index(mark) for mark in MARKS)
        Path(arguments.write).write_text(page[: begin + len(MARKS[0])] + "\n" + text + page[end:])


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--demonstrations", required=True)
    parser.add_argument("--preferences", required=True)
    parser.add_argument("--steps", type=int, default=8, help="optimizer steps")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=2e-5)
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--methods", nargs="+", choices=list(CURVES), default=list(CURVES))
    parser.add_argument("--trl", default="1.16.0", help="version of TRL")
    parser.add_argument("--trl-python", help="a Python that has TRL, instead of making an environment")
    parser.add_argument("--write", help="a Markdown file whose marked part is replaced")
    return parser.parse_args()


def settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """What both workers read."""
    given = {name: getattr(arguments, name) for name in ("model", "demonstrations", "preferences", "trl", "threads")}
    return {
        **given,
        "rows": arguments.steps * arguments.batch_size,
        "batch_size": arguments.batch_size,
        "rows_at_a_time": arguments.batch_size,
        "max_length": arguments.max_length,
        "micro_batch_tokens": 2048,
        "precision": "fp32",
        "learning_rate": arguments.learning_rate,
        "logging_steps": 1,
        "sequential": True,
    }


def compared(method: str, ours: list[dict[str, float]], theirs: Worker) -> list[str]:
    """Lines of the table for one method."""
    lines = []
    for label, _, setting in CURVES[method]:
        curve = theirs.run(task=method, **setting)["curve"]
        print(f"{method}, {label}: ours {ours}, theirs {curve}", file=sys.stderr, flush=True)
        loss, norm = (
            [relative(one[name], other[name]) for one, other in zip(ours, curve, strict=True)]
            for name in ("loss", "grad_norm")
        )
        worst = max(range(len(ours)), key=lambda step: loss[step])
        seen = f"{ours[0]['loss']:.6f} to {ours[-1]['loss']:.6f}"
        if "kl" in ours[0]:
            seen += f"; z0 at most {max(point['kl'] for point in ours):.3f}, theirs {max(point['kl'] for point in curve):.3f}"
        lines.append(
            f"| {method} | {label} | {len(ours)} | {seen} | {loss[0]:.1e} | {loss[worst]:.1e} (step {worst + 1}) | {max(norm):.1e} |"
        )
    return lines


def relative(one: float, other: float) -> float:
    """The difference relative to the second one."""
    return abs(one - other) / abs(other)


def report(arguments: argparse.Namespace, facts: dict[str, Any], lines: list[str]) -> str:
    """A Markdown table."""
    return "\n".join(
        [
            f"`python benchmarks/loss_curves.py {' '.join(shown(sys.argv[1:]))}`",
            "",
            f"{facts['model']}; {facts['text']}; fp32, batch {arguments.batch_size}, learning rate {arguments.learning_rate:g} falling "
            f"linearly, one epoch; {facts['versions']}, trl {arguments.trl}.",
            "",
            "| method | beside | steps | our loss, first to last step | difference at step 1 | largest difference of the loss | of the gradient's norm |",
            "| --- | --- | ---: | --- | ---: | ---: | ---: |",
            *lines,
            "",
        ]
    )


if __name__ == "__main__":
    main()
