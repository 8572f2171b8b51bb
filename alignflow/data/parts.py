"""The stage body `split`: cuts a table of preference pairs into parts, one for each round of a staged method. No torch."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

from alignflow.data.configs.training import SplitConfig
from alignflow.data.errors import DataError, TrainingError
from alignflow.data.records import table_batches, write_table
from alignflow.data.run import Run
from alignflow.data.step_names import part_name
from alignflow.data.tools import has_fields

TRAIN, HELDOUT = "train.parquet", "heldout.parquet"


@dataclass(frozen=True)
class PairRows:
    """What the cut goes by, in the order of the table.

    Attributes:
        ids: Names of the pairs.
        sources: Where each comes from.
        with_tools: Whether a conversation of the pair has more than texts.
    """

    ids: Sequence[str]
    sources: Sequence[str]
    with_tools: Sequence[bool]


def split(
    config: SplitConfig, *, preferences: Path, reference: Path | None = None, run: Run
) -> dict[str, float | None]:
    """Cut train.parquet of the pairs into `config.parts` parts; each has the whole heldout.parquet beside its rows.

    Inside a part rows keep the order of the table, so that a part's bytes depend on its own rows alone. Every pair is in one part.
    Parts by `given` and by `easy_to_hard` are equally large up to one pair; pairs that the reference left out as too long are in the
    last one.

    Args:
        config: Into how many parts, and by what.
        preferences: Directory of pairs.
        reference: The scores of these pairs under the model that training starts from, as the stage `reference` writes them; for
            `easy_to_hard` alone.
        run: Where to write: a directory `part.1`, `part.2`, ... for each part.

    Metrics: `pairs/N` for each part; by `easy_to_hard` also `accuracy/N`, the share of its pairs whose chosen answer is the more probable
    one under the reference, and `logratio/N`, the mean of log pi_ref(chosen) - log pi_ref(rejected), sums over tokens, nats.

    Raises:
        DataError: there are fewer pairs than parts, or the number of sources is another than that of parts.
        TrainingError: `easy_to_hard` without scores.
    """
    pairs = look_at(preferences / TRAIN)
    gaps = (
        log_ratios(reference / TRAIN, pairs.ids) if reference is not None and config.order == "easy_to_hard" else None
    )
    parts = parts_of(config, pairs, gaps)
    metrics: dict[str, float | None] = {}
    for number in range(1, config.parts + 1):
        chosen = [part == number for part in parts]
        directory = run.out / part_name(number)
        directory.mkdir()
        with_tools = any(compress(pairs.with_tools, chosen))
        rows = _picked(preferences / TRAIN, chosen)
        metrics[f"pairs/{number}"] = float(
            write_table(rows, "preferences", directory / TRAIN, weighted=False, with_tools=with_tools)
        )
        shutil.copyfile(preferences / HELDOUT, directory / HELDOUT)
        if gaps is not None:
            own = [gaps[name] for name in compress(pairs.ids, chosen) if name in gaps]
            metrics[f"accuracy/{number}"] = sum(gap > 0 for gap in own) / len(own)
            metrics[f"logratio/{number}"] = sum(own) / len(own)
    return metrics


def look_at(path: Path) -> PairRows:
    """Read what the cut goes by; texts are let go."""
    ids: list[str] = []
    sources: list[str] = []
    with_tools: list[bool] = []
    for rows in table_batches(path, 1024):
        for row in rows:
            ids.append(row["id"])
            sources.append(row["source"] or "")
            with_tools.append(has_fields([row]))
    return PairRows(ids, sources, with_tools)


def log_ratios(path: Path, ids: Sequence[str]) -> dict[str, float]:
    """Pair -> log pi_ref(chosen) - log pi_ref(rejected), sums over tokens, nats.

    Args:
        path: What the stage `reference` wrote of pairs: all chosen answers, then all rejected ones, each under the pair's name.
        ids: Names of the pairs that it may be about.

    Raises:
        TrainingError: it is about other rows, or a difference is no number.
    """
    answers = [(row["id"], row["logps"]) for rows in table_batches(path, 1024) for row in rows]
    half = len(answers) // 2
    chosen, rejected = answers[:half], answers[half:]
    if [name for name, _ in chosen] != [name for name, _ in rejected] or not {name for name, _ in chosen} <= {*ids}:
        raise TrainingError(
            "the reference's log-probabilities are of other rows",
            where=str(path),
            do="compute them from the same preferences, as pairs",
        )
    gaps = {name: first - second for (name, first), (_, second) in zip(chosen, rejected, strict=True)}
    if nameless := next((name for name, gap in gaps.items() if math.isnan(gap)), None):
        raise TrainingError(
            "a pair's log-ratio under the reference is no number",
            where=f"{path}, row {nameless}",
            do="look at that row",
        )
    return gaps


def parts_of(config: SplitConfig, pairs: PairRows, gaps: Mapping[str, float] | None = None) -> list[int]:
    """The part of each pair, from 1 on, in the order of the table; raises as `split`."""
    if config.order == "sources":
        return _by_source(config.parts, pairs.sources)
    order = list(range(len(pairs.ids)))
    left_over: list[int] = []
    if config.order == "easy_to_hard":
        if gaps is None:
            raise TrainingError(
                "no scores to order the pairs by", where="split", do="give what `reference` made of them"
            )
        left_over = [place for place in order if pairs.ids[place] not in gaps]
        known = [place for place in order if pairs.ids[place] in gaps]
        order = sorted(known, key=lambda place: -gaps[pairs.ids[place]])  # stable: equal ones stay in the table's order
    if len(order) < config.parts:
        raise DataError(
            f"{len(order)} preference pair{'s' * (len(order) != 1)} cannot be cut into {config.parts} parts",
            where="align.options.stages",
            do="set fewer stages, or give or label more pairs",
        )
    parts = [config.parts] * (len(order) + len(left_over))
    for rank, place in enumerate(order):
        parts[place] = rank * config.parts // len(order) + 1
    return parts


def _by_source(count: int, sources: Sequence[str]) -> list[int]:
    numbers = {source: number for number, source in enumerate(dict.fromkeys(sources), 1)}
    if len(numbers) != count:
        raise DataError(
            f"the pairs come from {len(numbers)} source{'s' * (len(numbers) != 1)} ({', '.join(numbers)}), and there are {count} stages",
            where="align.options.stages",
            do=f"set stages to {len(numbers)}" if len(numbers) > 1 else "set options.order to given",
        )
    return [numbers[source] for source in sources]


def _picked(path: Path, chosen: Sequence[bool]) -> Iterator[dict[str, Any]]:
    """The chosen rows of a table, in its order."""
    return compress((row for rows in table_batches(path, 1024) for row in rows), chosen)
