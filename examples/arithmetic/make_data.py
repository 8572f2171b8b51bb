"""Write sums with their results: `python examples/arithmetic/make_data.py [DIRECTORY]`. Same bytes every time.

A number of two digits and one of one digit are added: SmolLM2-135M-Instruct gets a part of these sums right, which is what a
verifiable reward needs to begin; of differences, and of sums of two numbers of two digits, it gets few. Two answered questions
stand before each, so that the model answers in few tokens. No question of the evaluation is among the prompts. Only the standard
library is used. Code Apache-2.0, data CC0-1.0.
"""

from __future__ import annotations

import gzip
import json
import random
import sys
from pathlib import Path

SEED = 20260
PROMPTS, EVALUATION = 600, 200
SHOWN = ((14, 3), (25, 2))


def question(first: int, second: int) -> str:
    """What the user asks."""
    return f"What is {first} + {second}?"


def row(first: int, second: int) -> dict[str, object]:
    """A row of prompts: the conversation, the right result, and the check that an answer gets."""
    turns = []
    for one, other in SHOWN:
        turns.append({"role": "user", "content": question(one, other)})
        turns.append({"role": "assistant", "content": f"{one} + {other} = {one + other}"})
    turns.append({"role": "user", "content": question(first, second)})
    return {"prompt": turns, "reference": str(first + second), "verifier": "numeric_answer"}


def main(directory: Path) -> None:
    """Write prompts and evaluation."""
    sums = [(first, second) for first in range(10, 100) for second in range(1, 10)]
    asked = [each for each in sums if each not in SHOWN]
    random.Random(SEED).shuffle(asked)
    sides = {"prompts": asked[:PROMPTS], "evaluation": asked[PROMPTS : PROMPTS + EVALUATION]}
    for name, questions in sides.items():
        lines = "".join(json.dumps(row(*each)) + "\n" for each in questions)
        with (
            (directory / f"{name}.jsonl.gz").open("wb") as file,
            gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0) as packed,
        ):
            packed.write(lines.encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
