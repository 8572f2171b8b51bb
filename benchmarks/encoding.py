"""Rows per second from conversations to token ids: one by one, at once, and by the tokenizer's own `apply_chat_template`.

    python benchmarks/encoding.py TOKENIZER [--rows 2000] [--words 70] [--template chatml]

TOKENIZER is a Hugging Face directory or Hub id. Rows are made of this repository's documents, of about `--words` words (70 are some 150 tokens
with SmolLM2). Times are of the processor, the least of three, on one core unless TOKENIZERS_PARALLELISM=true; each way is first
checked to give the ids of the others.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alignflow.data.batch_rendering import encode_answers, encode_conversations, encode_prompts
from alignflow.data.chat_templates import TEMPLATES
from alignflow.data.records import assistant, user
from alignflow.data.rendering import encode_prompt, encode_turn, encode_turns, load_tokenizer

DOCUMENTS = Path(__file__).parents[1] / "docs"


def main() -> None:
    """Print a line for each table and way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizer")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--words", type=int, default=70)
    parser.add_argument("--turns", type=int, default=50, help="exchanges of a long conversation")
    parser.add_argument("--template", choices=sorted(TEMPLATES), help="for a tokenizer without one")
    arguments = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    tokenizer = load_tokenizer(arguments.tokenizer)
    if arguments.template:
        tokenizer.chat_template = TEMPLATES[arguments.template]
    tables = make_tables(arguments.rows, arguments.words, arguments.turns)
    print(f"{'table':24}{'way':24}{'rows/s':>10}{'us/row':>10}")
    for name, ways in ways_of(tokenizer, tables).items():
        results = [way() for _, way, _ in ways[:2]]
        if results[0] != results[1]:
            raise SystemExit(f"{name}: the ids differ between one by one and at once")
        for label, way, rows in ways:
            seconds = least_time(way)
            print(f"{name:24}{label:24}{rows / seconds:10,.0f}{seconds / rows * 1e6:10,.0f}")


def make_tables(rows: int, words: int, turns: int) -> dict[str, list[Any]]:
    """Demonstrations of one exchange, pairs as (prompt, answer, ended), prompts, and long conversations."""
    known = [word for path in sorted(DOCUMENTS.glob("*.md")) for word in path.read_text(encoding="utf-8").split()]
    drawn = random.Random(0)

    def text(share: float) -> str:
        start = drawn.randrange(len(known))
        return " ".join((known[start:] + known)[: max(1, int(words * share))])

    prompts = [user(text(0.35)) for _ in range(rows)]
    return {
        "demonstrations": [[*prompt, *assistant(text(0.65))] for prompt in prompts],
        "answers": [(prompt, text(0.65), True) for prompt in prompts for _ in range(2)],
        "prompts": prompts,
        "long": [
            [turn for _ in range(turns) for turn in (*user(text(0.35)), *assistant(text(0.65)))] for _ in range(4)
        ],
    }


def ways_of(tokenizer: Any, tables: dict[str, list[Any]]) -> dict[str, list[tuple[str, Callable[[], Any], int]]]:
    """For each table its ways, each with its name, what it does, and how many rows that is."""

    def ways(
        rows: list[Any],
        one: Callable[[Any], Any],
        many: Callable[[list[Any]], Any],
        plain: list[Any],
        prompt: bool = False,
    ) -> list[Any]:
        return [
            ("one by one", lambda: [one(row) for row in rows], len(rows)),
            ("at once", lambda: many(rows), len(rows)),
            (
                "apply_chat_template",
                lambda: tokenizer.apply_chat_template(plain, tokenize=True, add_generation_prompt=prompt),
                len(plain),
            ),
        ]

    answers = tables["answers"]
    wholes = [[*prompt, *assistant(answer)] for prompt, answer, _ in answers]
    found = {
        f"{name}": ways(
            tables[name],
            lambda row: encode_turns(tokenizer, row),
            lambda rows: encode_conversations(tokenizer, rows),
            tables[name],
        )
        for name in ("demonstrations", "long")
    }
    found["answers, 2 a prompt"] = ways(
        answers,
        lambda row: encode_turn(tokenizer, row[0], row[1], ended=row[2]),
        lambda rows: encode_answers(tokenizer, rows),
        wholes,
    )
    found["prompts"] = ways(
        tables["prompts"],
        lambda row: encode_prompt(tokenizer, row),
        lambda rows: encode_prompts(tokenizer, rows),
        tables["prompts"],
        True,
    )
    return found


def least_time(way: Callable[[], Any]) -> float:
    """Seconds of the processor that `way` takes, the least of three."""
    times = []
    for _ in range(3):
        start = time.process_time()
        way()
        times.append(time.process_time() - start)
    return min(times)


if __name__ == "__main__":
    main()
