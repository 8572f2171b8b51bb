"""The labelling stage: a judge turns candidate answers into preference pairs, rankings and their statistics."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignflow.data.configs.generation import LabelConfig
from alignflow.data.errors import DataError, TrainingError
from alignflow.data.own_module import short
from alignflow.data.records import assistant, read_table, row_id, write_table
from alignflow.data.reward_ensembles import DISAGREEMENT
from alignflow.data.run import Run, Share, write_json
from alignflow.models.generation.journal import RowJournal, RowWork
from alignflow.models.judges.base import (
    IDENTICAL,
    Candidate,
    Judge,
    Verdict,
    flags_of,
    judge_row,
    make_judge,
    own_source,
    verdict_from_scores,
)
from alignflow.models.judges.blanks import is_blank, same_answer
from alignflow.models.judges.label_statistics import label_statistics, unanswered
from alignflow.models.judges.pairing import JudgedPair, all_pairs, is_label_held_out, kept_pairs, planned_pairs

_SIDES = ("train", "heldout")
_SHOWN_CHARACTERS = 500  # of a flagged answer, in flagged.json


@dataclass(frozen=True)
class LabelledPrompt:
    """One prompt with its candidates, what the judge said, and the pairs that became preferences."""

    row: dict[str, Any]
    held_out: bool
    scores: list[float | None]  # one per candidate; all None for a pairwise judge
    details: list[dict[str, float]]
    judged: list[JudgedPair]
    kept: list[JudgedPair]
    dropped: dict[str, int]
    flags: list[list[str]] | None = (
        None  # marks of the judge's own in each candidate; None where the judge looks for none
    )


def label(
    config: LabelConfig, *, completions: Path, policy: Path | None = None, reward_model: Path | None = None, run: Run
) -> dict[str, float | None]:
    """Judge the candidates of `completions`/train.parquet and write preferences, rankings and statistics.

    Raises DataError where there is nothing to compare, TrainingError where the judge preferred nothing.
    """
    rows = _rows(completions)
    with closing(make_judge(config.judge, policy=policy, reward_model=reward_model, run=run)) as judge:
        results = RowJournal(run.rows, run.note).compute(*_work(config, judge, rows, run))
        labelled = [_labelled(config, judge, row, result) for row, result in zip(rows, results, strict=True)]
        pointwise = judge.pointwise
    statistics = label_statistics(labelled, pointwise)
    _check_pairs(statistics, config)
    _write(labelled, run)
    write_json(run.out / "statistics.json", statistics)
    _warn(statistics, run)
    return _metrics(statistics)


def fill_labels(
    config: LabelConfig,
    *,
    completions: Path,
    policy: Path | None = None,
    reward_model: Path | None = None,
    run: Run,
    share: Share,
) -> None:
    """Journal a share of the raw labels that `label` will take."""
    rows = _rows(completions)
    with closing(make_judge(config.judge, policy=policy, reward_model=reward_model, run=run)) as judge:
        RowJournal(run.rows, run.note).fill(_work(config, judge, rows, run), share)


def _rows(completions: Path) -> list[dict[str, Any]]:
    rows = read_table(completions / "train.parquet")
    _check_candidates(rows, completions)
    return rows


def _work(config: LabelConfig, judge: Judge, rows: Sequence[dict[str, Any]], run: Run) -> RowWork:
    identities = [_identity(config, judge, row) for row in rows]
    return RowWork(
        identities,
        config.batch_size,
        _labeller(config, judge, rows, run),
        lambda done, total: run.progress(done, total, "prompts"),
    )


def _identity(config: LabelConfig, judge: Judge, row: dict[str, Any]) -> str:
    """The journal's name of a prompt: everything in config and row that its raw labels depend on."""
    who = {
        "name": short(config.judge.name),
        "source": own_source(config.judge.name),
        "options": config.judge.options,
        "fingerprint": judge.fingerprint,
        "seed": config.seed,
        "version": judge_row(config.judge.name).version,
    }
    return row_id("label", who, row["id"], row["prompt"], row["completions"], row["ended"])


def _candidates(row: dict[str, Any]) -> list[Candidate]:
    ended = row["ended"] or [True] * len(row["completions"])
    return [Candidate(row["prompt"], text, flag) for text, flag in zip(row["completions"], ended, strict=True)]


def _labeller(
    config: LabelConfig, judge: Judge, rows: Sequence[dict[str, Any]], run: Run
) -> Callable[[list[int]], list[Any]]:
    """What the journal calls: raw labels of a batch of prompts, asked of the judge all at once."""

    def score(batch: list[int]) -> list[Any]:
        run.count_rows(len(batch))
        groups = [_candidates(rows[index]) for index in batch]
        flat = [candidate for group in groups for candidate in group]
        scores = iter(score if score is not None and math.isfinite(score) else None for score in judge.score(flat))
        details = iter(judge.details(flat))
        return [
            {"scores": [next(scores) for _ in group], "details": [next(details) for _ in group]} for group in groups
        ]

    def compare(batch: list[int]) -> list[Any]:
        run.count_rows(len(batch))
        groups = [_candidates(rows[index]) for index in batch]
        plans = [
            planned_pairs(len(group), config.seed, rows[index]["id"])
            for index, group in zip(batch, groups, strict=True)
        ]
        flat = [(group[one], group[other]) for group, pairs in zip(groups, plans, strict=True) for one, other in pairs]
        verdicts = iter(judge.compare(flat))
        return [{"pairs": [[*pair, *_packed(next(verdicts))] for pair in pairs]} for pairs in plans]

    return score if judge.pointwise else compare


def _packed(verdict: Verdict) -> list[Any]:
    return [verdict.probability, list(verdict.scores), list(verdict.orders), verdict.reason, list(verdict.masses)]


def _unpacked(
    pair: tuple[Candidate, Candidate],
    probability: float | None,
    scores: list[Any],
    orders: list[Any],
    reason: str,
    masses: Sequence[Any] = (None, None),
) -> Verdict:
    """A verdict from the journal, where those of earlier versions have no masses. No judge decides between equal answers."""
    if same_answer(pair[0].text, pair[1].text):
        return Verdict(None, reason=IDENTICAL)
    return Verdict(probability, (scores[0], scores[1]), (orders[0], orders[1]), reason, (masses[0], masses[1]))


def _labelled(config: LabelConfig, judge: Judge, row: dict[str, Any], result: dict[str, Any]) -> LabelledPrompt:
    candidates = _candidates(row)
    scores = result.get("scores", [None] * len(candidates))
    if judge.pointwise:
        judged = [
            JudgedPair(
                one,
                other,
                verdict_from_scores(judge, (candidates[one], candidates[other]), (scores[one], scores[other])),
            )
            for one, other in all_pairs(len(candidates))
        ]
    else:
        judged = [
            JudgedPair(one, other, _unpacked((candidates[one], candidates[other]), *verdict))
            for one, other, *verdict in result["pairs"]
        ]
    blank = {index for index, candidate in enumerate(candidates) if is_blank(candidate.text)}
    answers = [
        ("" if index in blank else candidate.text, candidate.ended) for index, candidate in enumerate(candidates)
    ]
    kept, dropped = kept_pairs(judged, answers, config.pairs_per_prompt, config.min_margin, blank)
    held_out = is_label_held_out(row["prompt"], config.heldout_fraction)
    flags = flags_of(judge, candidates)
    return LabelledPrompt(row, held_out, scores, result.get("details", []), judged, kept, dropped, flags)


def _preference(labelled: LabelledPrompt, pair: JudgedPair) -> dict[str, Any]:
    row = labelled.row
    candidates = _candidates(row)
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
    }


def _ranking(labelled: LabelledPrompt) -> dict[str, Any]:
    """The candidates that have a score and are no blanks; those of a pairwise judge have their mean probability of being better."""
    row = labelled.row
    scores = labelled.scores if any(score is not None for score in labelled.scores) else _win_rates(labelled)
    scored = [
        (candidate, score)
        for candidate, score in zip(_candidates(row), scores, strict=True)
        if score is not None and not is_blank(candidate.text)
    ]
    return {
        "id": row["id"],
        "source": row["source"],
        "prompt": row["prompt"],
        "completions": [candidate.text for candidate, _ in scored],
        "scores": [score for _, score in scored],
        "ended": [candidate.ended for candidate, _ in scored],
    }


def _win_rates(labelled: LabelledPrompt) -> list[float | None]:
    """For each candidate the mean probability, over the pairs that a judge decided, that it is the better one; None where it is in none
    (Liu et al. 2024, "LiPO", arXiv 2402.01878, without the comparison with itself)."""
    found: list[list[float]] = [[] for _ in labelled.row["completions"]]
    for pair in labelled.judged:
        if pair.verdict.probability is not None:
            found[pair.first].append(pair.verdict.probability)
            found[pair.second].append(1 - pair.verdict.probability)
    return [sum(rates) / len(rates) if rates else None for rates in found]


def _write(labelled: Sequence[LabelledPrompt], run: Run) -> None:
    for side in _SIDES:
        prompts = [prompt for prompt in labelled if prompt.held_out == (side == "heldout")]
        pairs = (_preference(prompt, pair) for prompt in prompts for pair in prompt.kept)
        write_table(pairs, "preferences", run.out / "preferences" / f"{side}.parquet")
        write_table(map(_ranking, prompts), "rankings", run.out / "rankings" / f"{side}.parquet")
    if any(prompt.flags is not None for prompt in labelled):
        write_json(run.out / "flagged.json", [row for prompt in labelled for row in _flagged(prompt)])


def _flagged(labelled: LabelledPrompt) -> list[dict[str, Any]]:
    """The prompt's answers that have marks of the judge's own: where they stand, and which marks."""
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


def _check_candidates(rows: Sequence[dict[str, Any]], path: Path) -> None:
    if not rows:
        raise DataError(
            "no completions to label", where=str(path), do="sample some, or give completions in the recipe's data"
        )
    if all(len(row["completions"]) < 2 for row in rows):
        raise DataError(
            "every prompt has one completion, and a pair needs two", where=str(path), do="set sample.n to 2 or more"
        )


def _check_pairs(statistics: dict[str, Any], config: LabelConfig) -> None:
    if statistics["pairs"]["train"]:
        return
    reasons = (
        ", ".join(f"{count} {reason}" for reason, count in sorted(statistics["dropped"].items())) or "all held out"
    )
    raise TrainingError(
        f"the judge {short(config.judge.name)!r} left no preference pair to train on (of {statistics['judged']} judged: {reasons})",
        where="label",
        do=unanswered(statistics)
        or "sample more prompts or raise sample.temperature, lower label.min_margin, or take another judge",
    )


def _warn(statistics: dict[str, Any], run: Run) -> None:
    if not statistics["pairs"]["heldout"]:
        run.warn("no held-out preference pairs: the reward model's accuracy cannot be measured; label more prompts")
    unlabelled = {reason: count for reason, count in statistics["abstentions"].items() if reason != IDENTICAL}
    if sum(unlabelled.values()) > 0.1 * statistics["judged"]:
        run.warn(
            f"the judge gave no label for {sum(unlabelled.values())} of {statistics['judged']} pairs: {unlabelled}"
        )
    low = statistics["longer_wins"]["low"]
    if low is not None and low > 0.8:
        run.warn(
            f"the longer answer wins in {statistics['longer_wins']['rate']:.0%} of the pairs: the judge may reward length alone"
        )
    _warn_of_flags(statistics["flagged"], run)
    flips = statistics["flips"]["low"]
    if flips is not None and flips > 0.5:
        run.warn(
            f"the judge changes its mind with the seats in {statistics['flips']['rate']:.0%} of the pairs: these are ties and were left out, "
            "and the other labels are near chance"
        )
    if words := unanswered(statistics):
        run.warn(words)


def _warn_of_flags(flagged: dict[str, Any], run: Run) -> None:
    if not flagged["answers"]["hits"]:
        return
    wins, marks = flagged["wins"], ", ".join(f"{name} {count}" for name, count in flagged["marks"].items())
    won = (
        f"they won {wins['hits']} of {wins['trials']} pairs against an answer without"
        if wins["trials"]
        else "none of their pairs was decided"
    )
    run.warn(
        f"{flagged['answers']['hits']} of {flagged['answers']['trials']} answers have marks of the judge's own ({marks}); {won}: "
        "read flagged.json of this step, and set judge.options.flagged to drop to leave such pairs out"
    )


def _metrics(statistics: dict[str, Any]) -> dict[str, float | None]:
    judged = statistics["judged"]
    return {
        "pairs/train": float(statistics["pairs"]["train"]),
        "pairs/heldout": float(statistics["pairs"]["heldout"]),
        "pairs/judged": float(judged),
        "ties": statistics["ties"] / judged,
        "abstentions": sum(statistics["abstentions"].values()) / judged,
        "flip_rate": statistics["flips"]["rate"],
        "first_seat_rate": statistics["first_seat"]["rate"],
        "longer_wins_rate": statistics["longer_wins"]["rate"],
        "flagged_rate": statistics["flagged"]["answers"]["rate"],
        "flagged_wins_rate": statistics["flagged"]["wins"]["rate"],
        "soft_label_entropy": statistics["soft_label_entropy"],
        "margin_mean": statistics["margin"]["mean"],
        **(
            {"judge/option_mass": mass["mean"], "judge/option_mass_p5": mass["p5"]}
            if (mass := statistics.get("option_mass"))
            else {}
        ),
        **({DISAGREEMENT: statistics[DISAGREEMENT]["mean"]} if DISAGREEMENT in statistics else {}),
    }
