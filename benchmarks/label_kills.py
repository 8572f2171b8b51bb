"""A labelling that is killed at random: no row is lost or doubled, and with transformers in fp32 the bytes are those of an undisturbed run.

`python benchmarks/label_kills.py MODEL PAIRS.parquet --rows 1000 --kills 10 [--engine vllm]`. PAIRS has columns prompt, chosen and rejected, or
prompt, response_a and response_b. MODEL is a directory, or `build` for a tiny model that the recipe builds. Each kill is a SIGKILL of the run
and all of its processes, after a random number of new batches in the row journal. With another engine than transformers the labels are
compared with those of transformers instead, by the largest difference of a probability.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import yaml

ANSWERS = (("chosen", "rejected"), ("response_a", "response_b"))
LIMIT_S = 1800


def text_of(value: Any) -> str:
    """A text, or the last turn of a conversation."""
    return value if isinstance(value, str) else value[-1]["content"]


def write_completions(pairs: Path, count: int, target: Path) -> int:
    """The first `count` pairs with two different answers, as a table of completions; returns how many there are."""
    table = pq.read_table(pairs)
    names = next(names for names in ANSWERS if set(names) <= set(table.column_names))
    kept = 0
    with open(target, "w", encoding="utf-8") as file:
        for row in table.to_pylist():
            answers = [text_of(row[name]) for name in names]
            if kept < count and answers[0].strip() != answers[1].strip() and all(map(str.strip, answers)):
                file.write(json.dumps({"prompt": row["prompt"], "completions": answers}) + "\n")
                kept += 1
    return kept


BUILT = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 800,
    "max_position_embeddings": 4096,
}


def write_recipe(
    place: Path, model: Path | None, completions: Path, arguments: argparse.Namespace, engine: str
) -> Path:
    """A recipe that does nothing but label."""
    judge = {
        "name": "llm",
        "options": {"max_length": arguments.max_length},
        "generator": engine,
    }
    recipe = {
        "name": "label-kills",
        "model": {"path": str(model)} if model else {"build": BUILT, "corpus": [{"path": str(completions)}]},
        "data": {
            "completions": [{"path": str(completions), "licence": "unknown"}],
            "near_duplicate_threshold": 1.0,
            "max_length": 1_000_000,
            "max_prompt_length": 1_000_000,
        },
        "sft": None,
        "label": {"judge": judge, "batch_size": arguments.batch_size, "unpaired": {"by": "score"}},
        "reward": None,
        "align": None,
        "evaluate": None,
        "report": None,
        "engine": {"precision": "fp32"},
    }
    path = place / f"{engine}.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


def start(recipe: Path, store: Path, words: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """A run in a session of its own, with further words on its command line and its output in a file beside the store."""
    log = open(store.parent / f"{store.name}.log", "ab")  # noqa: SIM115 (the process holds it)
    command = [sys.executable, "-m", "alignflow", "run", str(recipe), *words]
    environment = {**os.environ, "ALIGNFLOW_HOME": str(store)}
    return subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)


def batches(store: Path) -> int:
    """Batches in the row journals of labelling."""
    return len(list((store / "rows").glob("label*/batch-*.json")))


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL the run and everything below it at once."""
    members = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in members:
        try:
            member.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    process.wait()


def run_with_kills(recipe: Path, store: Path, kills: int, aims: random.Random) -> int:
    """Run to the end, with `kills` kills on the way; returns how many hit a labelling in progress."""
    hit = 0
    for _ in range(kills):
        process, begun, wanted = start(recipe, store), batches(store), aims.randint(1, 3)
        end = time.monotonic() + LIMIT_S
        while process.poll() is None and batches(store) < begun + wanted and time.monotonic() < end:
            time.sleep(0.02)
        time.sleep(aims.random() * 0.3)  # somewhere within a batch
        if process.poll() is not None:
            break
        kill(process)
        hit += 1
    if (code := start(recipe, store).wait()) != 0:
        raise SystemExit(f"the run failed with {code}: {store.parent / (store.name + '.log')}")
    return hit


def labels(store: Path) -> tuple[str, dict[tuple[str, int, int], float | None]]:
    """Digest of the label artifact, and probability by (row, first, second)."""
    artifact = next((store / "artifacts").glob("label-*"))
    rows = pq.read_table(artifact / "payload" / "verdicts.parquet").to_pylist()
    found = {(row["id"], row["first"], row["second"]): row["probability"] for row in rows}
    if len(found) != len(rows):
        raise SystemExit(f"{len(rows) - len(found)} rows are doubled")
    return json.loads((artifact / "manifest.json").read_text())["digest"], found


def main() -> None:
    """Print one line per finding; exit 1 where something differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", default="transformers")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--max-length", type=int, default=4096)
    parser.add_argument("--tolerance", type=float, default=1e-3)
    parser.add_argument("--place", type=Path, default=Path("label-kills"))
    arguments = parser.parse_args()
    place = arguments.place.absolute()
    place.mkdir(parents=True)
    count = write_completions(arguments.pairs, arguments.rows, place / "completions.jsonl")
    completions = place / "completions.jsonl"
    model = None if arguments.model == "build" else Path(arguments.model).absolute()
    plain = write_recipe(place, model, completions, arguments, "transformers")
    run_with_kills(plain, place / "undisturbed", 0, random.Random())
    wanted_digest, wanted = labels(place / "undisturbed")
    recipe = write_recipe(place, model, completions, arguments, arguments.engine)
    hit = run_with_kills(recipe, place / "killed", arguments.kills, random.Random(arguments.seed))
    digest, found = labels(place / "killed")
    both = [(one, found[row]) for row, one in wanted.items() if row in found]
    apart = [abs(one - other) for one, other in both if one is not None and other is not None]
    missing = sum((one is None) != (other is None) for one, other in both)
    print(
        f"{count} rows, {len(wanted)} pairs, killed {hit} times in the middle of labelling, engine {arguments.engine}"
    )
    print(f"pairs lost {len(wanted.keys() - found.keys())}, invented {len(found.keys() - wanted.keys())}, doubled 0")
    print(
        f"label in one run and not in the other: {missing}; largest difference of a probability {max(apart, default=0):.3g}"
    )
    print(f"digest {'equal' if digest == wanted_digest else 'different'}: {digest[:12]} {wanted_digest[:12]}")
    same = found.keys() == wanted.keys() and not missing
    exact = arguments.engine == "transformers"
    if not same or (exact and digest != wanted_digest) or max(apart, default=0) > arguments.tolerance:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
