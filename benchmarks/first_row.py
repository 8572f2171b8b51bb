"""How long a training waits for the rows of its first step, and what its process holds for all rows then.

    python benchmarks/first_row.py MODEL [--rows 20000] [--kind demonstrations|pairs] [--words 110] [--work DIR]

It writes a table of generated rows and reads it as a training does, twice, each time in a process of its own: the first one
encodes, the second one finds the token ids (where this version keeps them). MODEL is a directory with a tokenizer. It prints one
JSON object for each process: wall and CPU seconds until the first 64 rows were there, and megabytes of its own memory before that
and after (`RssAnon` of Linux: pages of mapped files are shared, and not counted).
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TEXT = (
    "the a of and to in that model answer question number value because therefore however river mountain small large quickly people "
    "country water light music history science reason example between before after another without through"
)
WORDS = TEXT.split()
STEP = 64


def main() -> None:
    """Write the table, and read it in two processes, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--rows", type=int, default=20000)
    parser.add_argument("--kind", choices=("demonstrations", "pairs"), default="demonstrations")
    parser.add_argument("--words", type=int, default=110)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--read", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.read:
        print(json.dumps(read(given)))
        return
    with tempfile.TemporaryDirectory() as made:
        work = given.work or Path(made)
        write(given, work / "train.parquet")
        for which in ("first", "second"):
            command = [sys.executable, __file__, given.model, "--read", "--kind", given.kind, "--work", str(work)]
            print(
                which,
                subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().splitlines()[-1],
                flush=True,
            )


def write(given: argparse.Namespace, table: Path) -> None:
    """A table of rows with texts of random words, the same in every run."""
    from alignflow.data.records import assistant, user, write_table

    draw = random.Random(0)

    def text(words: int) -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(words // 2, words * 3 // 2)))

    def row(number: int) -> dict[str, object]:
        prompt = user(text(given.words // 3))
        if given.kind == "demonstrations":
            return {
                "id": f"row{number}",
                "source": "generated",
                "messages": [*prompt, *assistant(text(given.words * 2 // 3))],
            }
        sides = {side: assistant(text(given.words * 2 // 3)) for side in ("chosen", "rejected")}
        return {
            "id": f"row{number}",
            "source": "generated",
            "prompt": prompt,
            **sides,
            "chosen_ended": True,
            "rejected_ended": True,
        }

    write_table(
        map(row, range(given.rows)), "demonstrations" if given.kind == "demonstrations" else "preferences", table
    )


def read(given: argparse.Namespace) -> dict[str, float]:
    """What a training does until it has the rows of its first step; the imports and the tokenizer come before."""
    from alignflow.data.rendering import load_tokenizer
    from alignflow.data.run import Run, Runtime
    from alignflow.models.trainers.pairs import read_pairs
    from alignflow.models.trainers.sft import read_rows

    run = Run(out=given.work, side=given.work, work=given.work / "work", rows=given.work / "rows", runtime=Runtime())
    tokenizer = load_tokenizer(given.model)
    before, wall, cpu = own_megabytes(), time.monotonic(), time.process_time()
    if given.kind == "demonstrations":
        _, rows = read_rows(given.work / "train.parquet", tokenizer, 4096, run)
        step = [rows[index] for index in range(STEP)]
    else:
        rows = read_pairs(given.work / "train.parquet", tokenizer, 4096, run, "benchmark")
        step = rows.both(range(STEP))
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    return {
        "rows": len(rows),
        "tokens_of_step": sum(map(len, step)),
        "wall_s": round(wall, 2),
        "cpu_s": round(cpu, 2),
        "memory_before_mb": round(before),
        "memory_after_mb": round(own_megabytes()),
    }


def own_megabytes() -> float:
    """Memory of this process that it shares with no other."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
