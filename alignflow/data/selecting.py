"""The stage `select`: of the scored answers to each prompt it keeps some, as demonstrations, lists and pairs (best of n, rejection sampling)."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from alignflow.data.configs.selecting import SelectConfig
from alignflow.data.dropped import kept_line
from alignflow.data.errors import DataError
from alignflow.data.records import assistant, read_table, row_id, write_table
from alignflow.data.run import Run, write_json

SIDES = ("train", "heldout")
CUT = "cut at the token limit"
NO_SCORE = "no score"
LOW = "below select.minimum"
NOT_BEST = "not among the best"
REJECTED = "not accepted"
COPY = "same text as another answer"
NONE_LEFT = "no answer left"


def select(config: SelectConfig, *, rankings: Path, run: Run) -> dict[str, float | None]:
    """Write demonstrations, rankings and preferences of the answers that `config.rule` keeps, for both sides, and statistics.json.

    An answer that was cut at the token limit is not kept: as a demonstration it would teach to stop there. Of equal texts one is kept, and of
    equal scores the first; both are counted. Pairs are those of neighbours among a prompt's kept answers in an order by the seed, the higher
    score chosen, as in RSO (Liu et al. 2023, arXiv 2309.06657); equal scores make none.

    Raises:
        DataError: nothing is left to learn from.
    """
    counts: dict[str, float | None] = {}
    dropped, ties = Counter[str](), 0
    for side in SIDES:
        kept = [kept_of(row, config) for row in read_table(rankings / f"{side}.parquet")]
        left = [each for each in kept if each.places]
        write_table(
            [row for each in left for row in each.demonstrations()], "demonstrations", _at(run, "demonstrations", side)
        )
        write_table([each.ranking() for each in left], "rankings", _at(run, "rankings", side))
        pairs = [row for each in left for row in each.pairs(config.seed)]
        write_table(pairs, "preferences", _at(run, "preferences", side))
        for each in kept:
            dropped.update(each.dropped)
        dropped[NONE_LEFT] += len(kept) - len(left)
        ties += sum(each.tied for each in kept)
        counts |= {f"prompts/{side}": float(len(left)), f"pairs/{side}": float(len(pairs))}
        counts[f"answers/{side}"] = float(sum(len(each.places) for each in left))
    if not counts["answers/train"]:
        reasons = ", ".join(f"{number} {reason}" for reason, number in sorted(dropped.items()) if number)
        raise DataError(
            f"no answer is left to learn from ({reasons})",
            where="select",
            do="raise sample.max_new_tokens or sample.n, or lower select.minimum",
        )
    _say(counts, dropped, ties, run)
    write_json(
        run.out / "statistics.json", {"counts": counts, "dropped": dict(sorted((+dropped).items())), "ties": ties}
    )
    return {**counts, "ties": float(ties), "score/mean": _mean_score(run)}


@dataclass
class Kept:
    """What is kept of a list of scored answers.

    Attributes:
        row: The list.
        places: Which of its answers, in its order.
        dropped: How many of the others for which reason.
        tied: Whether equal scores decided which of two answers is kept.
    """

    row: dict[str, Any]
    places: list[int] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    tied: bool = False

    def demonstrations(self) -> list[dict[str, Any]]:
        """A conversation for each answer."""
        row = self.row
        texts = [row["completions"][place] for place in self.places]
        return [
            {
                "id": row_id("selected", row["id"], text),
                "source": row["source"],
                "messages": [*row["prompt"], *assistant(text)],
            }
            for text in texts
        ]

    def ranking(self) -> dict[str, Any]:
        """The list of these answers alone."""
        columns = {name: [self.row[name][place] for place in self.places] for name in ("completions", "scores")}
        return {**self.row, **columns, "ended": [True] * len(self.places)}

    def pairs(self, seed: int) -> list[dict[str, Any]]:
        """Rows of preferences: neighbours in an order by the seed."""
        order = _generator(seed, "pairs", self.row["id"]).permutation(self.places)
        found = []
        for one, other in zip(order[::2], order[1::2], strict=False):
            scores = self.row["scores"][one], self.row["scores"][other]
            if scores[0] == scores[1]:
                continue
            best, worst = (one, other) if scores[0] > scores[1] else (other, one)
            texts = self.row["completions"][best], self.row["completions"][worst]
            found.append(
                {
                    "id": row_id("selected pair", self.row["id"], *texts),
                    "source": self.row["source"],
                    "prompt": self.row["prompt"],
                    "chosen": assistant(texts[0]),
                    "rejected": assistant(texts[1]),
                    "chosen_ended": True,
                    "rejected_ended": True,
                    "margin": max(scores) - min(scores),
                    "score_chosen": max(scores),
                    "score_rejected": min(scores),
                }
            )
        return found


def kept_of(row: dict[str, Any], config: SelectConfig) -> Kept:
    """What the rule keeps of a row of rankings."""
    found = Kept(row)
    ended = row["ended"] or [True] * len(row["completions"])
    texts: set[str] = set()
    fit = []
    for place, (text, score, flag) in enumerate(zip(row["completions"], row["scores"], ended, strict=True)):
        reason = CUT if not flag else NO_SCORE if score is None or math.isnan(score) else COPY if text in texts else ""
        if not reason and config.minimum is not None and score < config.minimum:
            reason = LOW
        if reason:
            found.dropped[reason] += 1
        else:
            texts.add(text)
            fit.append(place)
    scores = [row["scores"][place] for place in fit]
    if config.rule == "best":
        order = sorted(range(len(fit)), key=lambda at: (-scores[at], at))
        found.places = sorted(fit[at] for at in order[: config.n])
        found.tied = len(fit) > config.n and scores[order[config.n - 1]] == scores[order[config.n]]
        found.dropped[NOT_BEST] += len(fit) - len(found.places)
    elif config.rule == "rso":
        draws = _generator(config.seed, "rso", row["id"]).random(len(fit))
        chances = accept_probabilities(scores, config.beta)
        found.places = [place for place, draw, chance in zip(fit, draws, chances, strict=True) if draw < chance]
        found.dropped[REJECTED] += len(fit) - len(found.places)
    else:
        found.places = fit
    found.dropped = +found.dropped
    return found


def accept_probabilities(scores: Sequence[float], beta: float) -> list[float]:
    """exp((r - r_max) / beta) of each score of a prompt: 1 for the highest (Liu et al. 2023, "RSO", arXiv 2309.06657, algorithm 1)."""
    highest = max(scores, default=0.0)
    return [math.exp((score - highest) / beta) for score in scores]


def _generator(seed: int, what: str, identity: str) -> np.random.Generator:
    """Random numbers of a prompt by its name, so that other prompts do not move them."""
    digest = hashlib.sha256(f"{what}/{seed}/{identity}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def _at(run: Run, table: str, side: str) -> Path:
    return run.out / table / f"{side}.parquet"


def _mean_score(run: Run) -> float | None:
    scores = [score for row in read_table(_at(run, "rankings", "train")) for score in row["scores"]]
    return float(np.mean(scores)) if scores else None


def _say(counts: dict[str, float | None], dropped: Counter[str], ties: int, run: Run) -> None:
    kept = sum(int(counts[f"answers/{side}"] or 0) for side in SIDES)
    lost = {reason: number for reason, number in dropped.items() if reason != NONE_LEFT and number}
    if lost:
        run.note(kept_line("scored answers", kept, lost))
    if dropped[NONE_LEFT]:
        run.warn(f"of {dropped[NONE_LEFT]} prompts no answer is kept, and they are left out")
    if ties:
        run.warn(
            f"of {ties} prompts equal scores decided nothing, and the first answer was taken: the judge tells too little apart"
        )
