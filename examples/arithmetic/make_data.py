"""Write sums and differences with their results: `python examples/arithmetic/make_data.py [DIRECTORY]`. Same bytes every time.

A question has a number of two digits and one of one digit: SmolLM2-135M-Instruct answers a part of them rightly, which is what a
verifiable reward needs to begin. Two answered questions stand before each, so that the model answers in few tokens. No question
of the evaluation is among the prompts. Only the standard library is used. Code Apache-2.0, data CC0-1.0.
"""

from __future__ import annotations

import gzip
import json
import random
import sys
from pathlib import Path

SEED = 20260
PROMPTS, EVALUATION = 800, 200
SHOWN = ((14, "+", 3), (25, "-", 2))


def result(first: int, sign: str, second: int) -> int:
    """The value of a question."""
    return first + second if sign == "+" else first - second


def question(first: int, sign: str, second: int) -> str:
    """What the user asks."""
    return f"What is {first} {sign} {second}?"


def row(first: int, sign: str, second: int) -> dict[str, object]:
    """A row of prompts: the conversation, the right result, and the check that an answer gets."""
    turns = []
    for shown in SHOWN:
        turns.append({"role": "user", "content": question(*shown)})
        turns.append({"role": "assistant", "content": f"{shown[0]} {shown[1]} {shown[2]} = {result(*shown)}"})
    turns.append({"role": "user", "content": question(first, sign, second)})
    return {"prompt": turns, "reference": str(result(first, sign, second)), "verifier": "numeric_answer"}


def main(directory: Path) -> None:
    """Write prompts and evaluation."""
    asked = [(first, sign, second) for first in range(10, 100) for sign in "+-" for second in range(1, 10)]
    asked = [each for each in asked if each not in SHOWN]
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
