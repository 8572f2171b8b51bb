"""The pairs of an annotation: taken once from data of any shape, and kept in a file of their own, so that every session has the same."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from alignflow.data.configs.inputs import PrepareConfig, SourceConfig
from alignflow.data.durable import sync
from alignflow.data.errors import DataError
from alignflow.data.parsing import parse_sources
from alignflow.data.records import normalise_text, pair_key, prompt_digest, read_table
from alignflow.data.sources.detect import kinds_of

PAIRS = "pairs.jsonl"
SHAPES = ("completions", "preferences", "rankings")
"""Kinds of tables that have pairs, in the order in which they are looked for."""


@dataclass(frozen=True)
class AnnotatedPair:
    """Two answers to a prompt.

    Attributes:
        id: A digest of the prompt and both answers, the same in either order.
        prompt: The conversation before the answers: turns of `{role, content}`.
        response_a: One answer; of the two texts the one that sorts first, so that nothing tells which model wrote it.
        response_b: The other one.
    """

    id: str
    prompt: list[dict[str, Any]]
    response_a: str
    response_b: str


@dataclass(frozen=True)
class TakenPairs:
    """Pairs, and how many are left out for which reason."""

    pairs: list[AnnotatedPair]
    left_out: dict[str, int]


def draw(name: str) -> float:
    """A number from 0 to 1 that depends on the name alone."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:13], 16) / 16**13


def take_pairs(rows: Iterable[Mapping[str, Any]], max_pairs: int | None, per_prompt: int = 1) -> TakenPairs:
    """Pairs of rows that have answers: all of completions or rankings, or a chosen and a rejected one.

    Which pairs of a prompt, and which of all, is decided by hash: the same data gives the same pairs in any order. Equal answers and
    blank ones are left out and counted.
    """
    left_out: Counter[str] = Counter()
    found: dict[str, AnnotatedPair] = {}
    prompts: dict[str, dict[str, AnnotatedPair]] = {}  # pairs of preferences stand in several rows of a prompt
    for row in rows:
        made = prompts.setdefault(prompt_digest(row["prompt"]), {})
        for first, second in itertools.combinations(_answers(row), 2):
            if not first.strip() or not second.strip():
                left_out["a blank answer"] += 1
            elif normalise_text(first) == normalise_text(second):
                left_out["equal answers"] += 1
            else:
                pair = _pair(row["prompt"], first, second)
                left_out["the same pair twice"] += pair.id in made
                made[pair.id] = pair
    for made in prompts.values():
        chosen = sorted(made, key=lambda name: draw(f"pair/{name}"))[:per_prompt]
        left_out["other pairs of the same prompt"] += len(made) - len(chosen)
        found |= {name: made[name] for name in chosen}
    names = sorted(found, key=lambda name: draw(f"all/{name}"))
    kept = names if max_pairs is None else names[:max_pairs]
    left_out["over --max-pairs"] += len(names) - len(kept)
    return TakenPairs([found[name] for name in kept], {reason: count for reason, count in left_out.items() if count})


def _answers(row: Mapping[str, Any]) -> list[str]:
    if "completions" in row:
        return list(row["completions"])
    return [row["chosen"][-1]["content"], row["rejected"][-1]["content"]]


def _pair(prompt: list[dict[str, Any]], first: str, second: str) -> AnnotatedPair:
    key, turned = pair_key(prompt, first, second)
    one, other = (second, first) if turned else (first, second)
    return AnnotatedPair(hashlib.sha256(key.encode()).hexdigest()[:24], prompt, one, other)


def rows_of_source(path: str, format_name: str = "auto") -> list[dict[str, Any]]:
    """Rows with answers of a file, folder, saved data set or Hub id in any known shape.

    Raises:
        DataError: it has no row with two answers.
    """
    source = SourceConfig(path=path, format=format_name)
    kinds = [kind for kind in SHAPES if kind in kinds_of(source)]
    if not kinds:
        raise DataError(
            "no row has two answers to a prompt",
            where=path,
            do="give completions, rankings or pairs; `alignflow inspect` shows what it is",
        )
    config = PrepareConfig.model_validate({kinds[0]: [source.model_dump()], "max_broken_fraction": 1.0})
    return list(parse_sources([source], kinds[0], config).rows)


def rows_of_artifact(payload: Path) -> list[dict[str, Any]]:
    """Rows with answers of a data set of the store: what a step sampled, prepared or labelled; raises DataError where it has none."""
    for kind in SHAPES:
        tables = [
            path for path in (payload / kind / f"{side}.parquet" for side in ("train", "heldout")) if path.is_file()
        ]
        if tables:
            return [row for path in tables for row in read_table(path)]
    raise DataError(
        "no completions, pairs or rankings in it", where=str(payload), do="name a step that samples, prepares or labels"
    )


def write_pairs_once(directory: Path, pairs: Sequence[AnnotatedPair]) -> None:
    """Keep the pairs of a new annotation; raises DataError where others are there, since answers belong to pairs."""
    path = directory / PAIRS
    text = "".join(json.dumps(asdict(pair), ensure_ascii=False) + "\n" for pair in pairs)
    if path.is_file():
        if path.read_text(encoding="utf-8") != text:
            raise DataError(
                "it has other pairs than this data gives",
                where=str(directory),
                do="name a new directory, or go on without --data",
            )
        return
    if not pairs:
        raise DataError("not one pair of different answers", where="--data", do="give several answers to a prompt")
    directory.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    sync(part)
    part.rename(path)
    sync(directory)


def read_pairs(directory: Path) -> list[AnnotatedPair]:
    """The pairs of an annotation; raises DataError where there are none."""
    path = directory / PAIRS
    if not path.is_file():
        raise DataError("no pairs in it yet", where=str(directory), do="begin with --data")
    try:
        return [AnnotatedPair(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines() if line]
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{PAIRS} is damaged ({error})", where=str(directory), do="begin anew in another directory"
        ) from error
