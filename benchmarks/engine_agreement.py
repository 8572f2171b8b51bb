"""What engines say about the same judge questions, and how fast: agreement of labels, pairs judged and tokens sampled a second.

    python benchmarks/engine_agreement.py MODEL --pairs llmbar.parquet [--engines transformers,vllm,server] [--rows 100] [--precision fp32]

The pairs are a table; `--columns` names those of the prompt and of two answers. Both orders of each pair are judged with the shipped question of the
judge `llm`. The first engine is what the others are compared with. The start of an engine is told apart from its work.
`server` is vLLM's own server on this machine; it is asked for judgements alone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas

from alignflow.data.configs.generation import JudgeConfig
from alignflow.data.configs.generators import GeneratorConfig
from alignflow.data.records import user
from alignflow.data.rendering import encode_prompt
from alignflow.data.run import Run, Runtime
from alignflow.models.generation.base import Sampling, make_generator
from alignflow.models.judges.base import Candidate, make_judge

OPTIONS: dict[str, dict[str, Any]] = {"server": {"serve": {}}}


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--columns", default="prompt,response_a,response_b")
    parser.add_argument("--engines", default="transformers,vllm")
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--batch", type=int, default=64, help="rows of one call, as the stages have them")
    parser.add_argument("--tokens", type=int, default=64, help="of each sampled answer")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    rows = read_pairs(given.pairs, given.columns.split(","), given.rows)
    with contextlib.redirect_stdout(sys.stderr):  # engines say what they do
        found = {}
        for name in given.engines.split(","):
            found[name] = measure(name, rows, given)
            print(json.dumps({name: {key: value for key, value in found[name].items() if key != "labels"}}), flush=True)
    first, *others = found
    report: dict[str, Any] = {
        name: {key: value for key, value in each.items() if key != "labels"} for name, each in found.items()
    }
    for name in others:
        report[name]["against " + first] = agreement(found[first]["labels"], found[name]["labels"])
    print(json.dumps({"pairs": len(rows), "precision": given.precision, "engines": report}, indent=1))


def read_pairs(path: Path, columns: list[str], most: int) -> list[tuple[Candidate, Candidate]]:
    """The first `most` pairs of a table as candidates."""
    prompt, first, second = columns
    rows = pandas.read_parquet(path).head(most).to_dict("records")
    return [(Candidate(user(row[prompt]), row[first]), Candidate(user(row[prompt]), row[second])) for row in rows]


def measure(name: str, pairs: list[tuple[Candidate, Candidate]], given: argparse.Namespace) -> dict[str, Any]:
    """Labels and speed of one engine."""
    runtime, config = (
        Runtime(precision=given.precision, threads=given.threads),
        GeneratorConfig(name=name, options=OPTIONS.get(name, {})),
    )
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        run = Run(place, place, place, place, runtime)
        begun = time.monotonic()
        judge = make_judge(JudgeConfig(name="llm", generator=config), policy=given.model, reward_model=None, run=run)
        started = time.monotonic() - begun
        begun, verdicts = time.monotonic(), []
        for start in range(0, len(pairs), given.batch):
            verdicts += judge.compare(pairs[start : start + given.batch])
        judged = time.monotonic() - begun
        judge.close()
    report = {"start_s": round(started, 1), "pairs_per_s": round(len(pairs) / judged, 2)}
    labels = [verdict.orders for verdict in verdicts]
    if name in OPTIONS:  # an endpoint takes text, and has no token ids
        return {**report, "labels": labels}
    engine = make_generator(given.model, runtime, config)
    prompts = [encode_prompt(engine.tokenizer, list(first.prompt)) for first, _ in pairs]
    prompts = [ids for ids in prompts if len(ids) < 512][: given.batch]
    begun = time.monotonic()
    made = engine.generate(prompts, Sampling(given.tokens), range(len(prompts)))
    sampled = time.monotonic() - begun
    engine.close()
    return {**report, "sampled_tokens_per_s": round(sum(row.tokens for row in made) / sampled, 1), "labels": labels}


def agreement(first: list[Any], second: list[Any]) -> dict[str, Any]:
    """How far apart the probabilities of both orders are, and how many readings one engine has and the other lacks."""
    readings = [pair for rows in zip(first, second, strict=True) for pair in zip(*rows, strict=True)]
    both = [(mine, theirs) for mine, theirs in readings if mine is not None and theirs is not None]
    differences = [abs(mine - theirs) for mine, theirs in both]
    return {
        "readings": len(both),
        "in one alone": sum((mine is None) != (theirs is None) for mine, theirs in readings),
        "other side of one half": sum((mine > 0.5) != (theirs > 0.5) for mine, theirs in both),
        "most": max(differences, default=None),
        "mean": math.fsum(differences) / len(differences) if differences else None,
    }


if __name__ == "__main__":
    main()
