"""How long sampling takes by several shards beside one process, in turn, on this machine.

`python benchmarks/shards.py --model DIRECTORY [--shards 2] [--pairs 2] [--prompts 300] [--runner local]`: makes model, data and
samples once, so that everything before sampling is cached, then samples anew (`--force sample`, with an empty row journal)
by one process and by several in turn, and prints the seconds of the step, its tokens per second of wall time and the ratio
within each pair. Seconds are those of the whole step: start of the processes, loading, sampling, and the last pass that
publishes. Ends with status 1 where the digests differ.
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
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def main() -> int:
    """Time the pairs and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="directory of a causal model")
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=2, help="how often both are timed")
    parser.add_argument("--prompts", type=int, default=300)
    parser.add_argument("--runner", choices=("local", "dask"), default="local")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        path, store = Path(directory) / "recipe.yaml", Path(directory) / "store"
        path.write_text(yaml.safe_dump(_recipe(arguments)))
        _run(path, store, "--until", "sample")
        rows = []
        print(
            "| pair | 1 process, s | shards, s | tokens/s | tokens/s by shards | ratio |\n| --- | --- | --- | --- | --- | --- |"
        )
        digests = set()
        for number in range(arguments.pairs):
            alone = _sample(path, store, 1, arguments.runner)
            several = _sample(path, store, arguments.shards, arguments.runner)
            digests |= {alone[2], several[2]}
            rows.append(alone[0] / several[0])
            print(
                f"| {number + 1} | {alone[0]:.1f} | {several[0]:.1f} | {alone[1]:.0f} | {several[1]:.0f} | {rows[-1]:.2f} |",
                flush=True,
            )
    print(
        f"\n{arguments.shards} shards: {statistics.median(rows):.2f} times as fast (median of {len(rows)} pairs); one digest: {len(digests) == 1}"
    )
    return 0 if len(digests) == 1 else 1


def _recipe(arguments: argparse.Namespace) -> dict:
    return {
        "name": "shards",
        "model": {"path": str(Path(arguments.model).absolute()), "chat_template": "plain"},
        "data": {
            "prompts": [
                {"path": str(ROOT / "examples" / "quickstart" / "prompts.jsonl.gz"), "max_rows": arguments.prompts}
            ]
        },
        "sample": {"n": 4, "max_new_tokens": 80},
        **dict.fromkeys(("sft", "reward", "align", "evaluate", "report")),
    }


def _run(path: Path, store: Path, *more: str) -> str:
    command = [sys.executable, "-m", "alignflow", "run", str(path), *more]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "ALIGNFLOW_HOME": str(store)}, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return done.stdout


def _sample(path: Path, store: Path, shards: int, runner: str) -> tuple[float, float, str]:
    """Seconds of the step, tokens per second, digest."""
    settings = ("--set", f"sample.shards={shards}", "--set", f"engine.task_runner={runner}")
    output = _run(path, store, "--only", "sample", "--force", "sample", *settings)
    (seconds,) = re.findall(r"^sample +ran in ([0-9.]+) s", output, re.MULTILINE)
    (artifact,) = (store / "artifacts").glob("sample-*")
    manifest = json.loads((artifact / "manifest.json").read_text())
    return float(seconds), manifest["cost"]["tokens"] / float(seconds), manifest["digest"]


if __name__ == "__main__":
    sys.exit(main())
