"""The tables of a labelling: preferences, rankings, answers labelled good or bad, and flagged answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignflow.data.configs.generation import LabelConfig
from alignflow.data.dropped import kept_line
from alignflow.data.own_module import short
from alignflow.data.records import assistant, row_id, write_table
from alignflow.data.reward_ensembles import DISAGREEMENT
from alignflow.data.run import Run, write_json
from alignflow.models.judges.answer_labels import ranking_row, scored_answers, unpaired_rows
from alignflow.models.judges.base import Assessment, Candidate
from alignflow.models.judges.best_and_worst import write_best_and_worst
from alignflow.models.judges.mixing import LOW_CONFIDENCE, Mixed, human_agreement, mixed, read_given
from alignflow.models.judges.pairing import JudgedPair

_SIDES = ("train", "heldout")
_SHOWN_CHARACTERS = 500  # shown of a flagged answer in flagged.json


@dataclass(frozen=True)
class LabelledPrompt:
    """One prompt with its candidates, the judge's verdicts, and the pairs that became preferences."""

    row: dict[str, Any]
    held_out: bool
    scores: list[float | None]  # one per candidate; all None for a pairwise judge
    details: list[dict[str, float]]
    judged: list[JudgedPair]
    kept: list[JudgedPair]
    dropped: dict[str, int]
    flags: list[list[str]] | None = (
        None  # marks in each candidate that address the judge; None if the judge does not look for marks
    )
    assessments: Sequence[Assessment] = ()  # a pointwise judge's assessments of the candidates


def candidates_of(row: dict[str, Any]) -> list[Candidate]:
    """The answers of a row of completions; each counts as ended if the row does not say."""
    ended = row["ended"] or [True] * len(row["completions"])
    reference = row.get("reference") or ""
    return [
        Candidate(row["prompt"], text, flag, reference) for text, flag in zip(row["completions"], ended, strict=True)
    ]


def with_reference(row: dict[str, Any]) -> dict[str, Any]:
    """A row of completions with the prompt's reference answer, if there is one, as the last of them; it counts as ended."""
    if not row.get("reference"):
        return row
    ended = row["ended"] or [True] * len(row["completions"])
    return {**row, "completions": [*row["completions"], row["reference"]], "ended": [*ended, True]}


def _preference(labelled: LabelledPrompt, pair: JudgedPair, judge: str) -> dict[str, Any]:
    row = labelled.row
    candidates = candidates_of(row)
    chosen, rejected = candidates[pair.chosen], candidates[pair.rejected]
    return {
        "id": row_id("pair", row["id"], chosen.text, chosen.ended, rejected.text, rejected.ended),
        "source": row["source"],
        "prompt": row["prompt"],
        "chosen": assistant(chosen.text),
        "rejected": assistant(rejected.text),
        "chosen_ended": chosen.ended,
        "rejected_ended": rejected.ended,
        "soft_label": pair.soft_label,
        "margin": pair.margin,
        "score_chosen": labelled.scores[pair.chosen],
        "score_rejected": labelled.scores[pair.rejected],
        "judge": judge,
        "principle": pair.verdict.principle or None,
        "rationale": pair.verdict.rationales[0 if pair.chosen == pair.first else 1] or None,
        **_orders(pair),
    }


def _orders(pair: JudgedPair) -> dict[str, float | None]:
    """P(chosen is better) in both orders: as asked with chosen first, and with rejected first; None if scores or a jury decided, which have one number for both.

    A verdict's orders refer to its first answer.
    """
    if pair.verdict.scores != (None, None) or DISAGREEMENT in pair.verdict.parts:
        return {"p_given": None, "p_swapped": None}
    given, swapped = pair.verdict.orders
    if pair.chosen != pair.first:
        given, swapped = (None if order is None else 1.0 - order for order in (swapped, given))
    return {"p_given": given, "p_swapped": swapped}


def write_pairs(
    labelled: Sequence[LabelledPrompt], config: LabelConfig, run: Run, preferences: Path | None = None
) -> dict[str, Any]:
    """Write the preferences, mixed with those of people if `preferences` is given, and flagged.json if the judge looks for marks.

    Returns its part of statistics.json: see `Mixed.statistics`, and `human_agreement` where there are pairs of people.
    """
    given, judge = read_given(preferences), short(config.judge.name)
    pairs = [(_preference(prompt, pair, judge), prompt.held_out) for prompt in labelled for pair in prompt.kept]
    found = mixed(pairs, given, config)
    for side in _SIDES:
        write_table(getattr(found, side), "preferences", run.out / "preferences" / f"{side}.parquet")
    statistics = found.statistics()
    if found.dropped[LOW_CONFIDENCE]:
        run.warn(
            f"{found.dropped[LOW_CONFIDENCE]} pairs are below label.min_confidence {config.min_confidence:g} and were dropped"
        )
    if preferences is not None:
        judged = [(prompt.row, pair) for prompt in labelled for pair in prompt.judged]
        statistics["human_agreement"] = agreement = human_agreement(judged, given)
        run.note(_mixed_line(found, agreement, config))
    if any(prompt.flags is not None for prompt in labelled):
        write_json(run.out / "flagged.json", [row for prompt in labelled for row in _flagged(prompt)])
    return statistics


def _mixed_line(found: Mixed, agreement: dict[str, Any], config: LabelConfig) -> str:
    counts = found.counts
    rule = "the given label is used" if config.mix == "override" else "both labels are combined"
    agreed = f"{agreement['hits']} of {agreement['trials']} decided" if agreement["trials"] else "none decided"
    return (
        f"{counts['given']} given pairs and {counts['judged']} of the judge; {counts['both']} are in both, where {rule}, "
        f"{counts['changed']} of them against the judge; of {agreement['pairs']} given pairs that the judge has seen, it agrees on {agreed}"
    )


def write_answers(labelled: Sequence[LabelledPrompt], config: LabelConfig, run: Run) -> dict[str, Any]:
    """Write rankings, best and worst answers, and answers with a label; returns and notes how many there are and, by reason, how many answers are in none."""
    dropped: dict[str, Counter[str]] = {"rankings": Counter(), "unpaired": Counter()}
    counts: dict[str, Any] = {"rankings": {}, "unpaired": {}}
    answers = 0
    for side, prompts in _by_side(labelled):
        rankings, rows = [], []
        for prompt in prompts:
            scored = scored_answers(prompt)
            found, left_out = unpaired_rows(prompt, scored, config.unpaired)
            rankings.append(ranking_row(prompt, scored))
            rows += found
            answers += len(scored.positions)
            dropped["rankings"].update(scored.dropped)
            dropped["unpaired"].update(left_out)
        write_table(rankings, "rankings", run.out / "rankings" / f"{side}.parquet")
        write_table(rows, "unpaired", run.out / "unpaired" / f"{side}.parquet")
        good = sum(row["label"] for row in rows)
        counts["rankings"][side] = len(rankings)
        counts["unpaired"][side] = {"good": good, "bad": len(rows) - good}
    extremes = write_best_and_worst(_by_side(labelled), config, run)
    labels = sum(sum(side.values()) for side in counts["unpaired"].values())
    for kind, kept, what in (("rankings", answers, "scored answers"), ("unpaired", labels, "labelled answers")):
        if dropped[kind]:
            run.note(kept_line(what, kept, dropped[kind]))
    return extremes | {kind: {**counts[kind], "dropped": dict(sorted(dropped[kind].items()))} for kind in counts}


def _by_side(labelled: Sequence[LabelledPrompt]) -> list[tuple[str, list[LabelledPrompt]]]:
    return [(side, [prompt for prompt in labelled if prompt.held_out == (side == "heldout")]) for side in _SIDES]


def _flagged(labelled: LabelledPrompt) -> list[dict[str, Any]]:
    """The prompt's answers with marks that address the judge: their positions, and the marks."""
    flags = enumerate(labelled.flags or [])
    return [
        {
            "id": labelled.row["id"],
            "completion": index,
            "marks": marks,
            "text": labelled.row["completions"][index][:_SHOWN_CHARACTERS],
        }
        for index, marks in flags
        if marks
    ]
