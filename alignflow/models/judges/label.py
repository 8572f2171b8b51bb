"""The labelling stage: a judge turns candidate answers into preference pairs, rankings, good and bad answers, and their statistics."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from alignflow.data import catalogue
from alignflow.data.configs.generation import LabelConfig
from alignflow.data.errors import DataError, TrainingError
from alignflow.data.judging.biases import first_position, flips
from alignflow.data.judging.calibration import Calibration
from alignflow.data.judging.conclusion import POOR
from alignflow.data.judging.outcomes import Outcome
from alignflow.data.judging.report import judge_report
from alignflow.data.judging.verdict_table import write_verdicts
from alignflow.data.own_module import short
from alignflow.data.records import read_table, row_id
from alignflow.data.reward_ensembles import DISAGREEMENT
from alignflow.data.run import Run, Share, write_json
from alignflow.models.generation.journal import RowJournal, RowWork
from alignflow.models.judges.asking import calibrated, judge_identity, outcome_of, packed, said, unpacked
from alignflow.models.judges.assessments import packed_assessments, unpacked_assessments, write_assessments
from alignflow.models.judges.base import (
    IDENTICAL,
    Judge,
    assess,
    flags_of,
    knows_seats,
    make_judge,
    verdict_of_assessments,
)
from alignflow.models.judges.blanks import is_blank
from alignflow.models.judges.label_card import write_label_card
from alignflow.models.judges.label_report import fit_of, read_calibration, warn_of, write_report
from alignflow.models.judges.label_statistics import label_statistics
from alignflow.models.judges.label_tables import (
    LabelledPrompt,
    candidates_of,
    with_reference,
    write_answers,
    write_pairs,
)
from alignflow.models.judges.pairing import JudgedPair, all_pairs, is_label_held_out, kept_pairs, planned_pairs

WIN_RATES = (
    "this judge compares pairs, so the scores of its rankings are win rates between 0 and 1: "
    "for lipo, set align.options.labels to scores to use them unchanged"
)
"""A note for a user's own judge; for a judge of the catalogue the recipe's method sets such options itself."""


def label(  # noqa: PLR0913 (each is an input of the stage)
    config: LabelConfig,
    *,
    completions: Path,
    policy: Path | None = None,
    reward_model: Path | None = None,
    preferences: Path | None = None,
    calibration: Path | None = None,
    run: Run,
) -> dict[str, float | None]:
    """Judge the candidates of `completions`/train.parquet and write preferences, rankings, unpaired, statistics and the judge report.

    Pairs that people labelled, in `preferences`, are mixed with the judge's: see `mixing.py`. `calibration` is the part with this name of a
    `judge_eval` step: if its fit helps, it calibrates soft labels.

    Raises DataError if there is nothing to compare, TrainingError if no preference pair is left and, if
    limits of the score decide, no answer with a label either.
    """
    rows = _rows(completions, config)
    _say_references(rows, config, run)
    fitted = read_calibration(calibration)
    fit, began = fit_of(fitted), time.monotonic()
    with closing(make_judge(config.judge, policy=policy, reward_model=reward_model, run=run)) as judge:
        results = RowJournal(run.rows, run.note).compute(*_work(config, judge, rows, run))
        labelled = [_labelled(config, judge, row, result, fit) for row, result in zip(rows, results, strict=True)]
        pointwise, seats, fingerprint = judge.pointwise, knows_seats(judge), judge.fingerprint
        usage = getattr(judge, "usage", None)
    seconds = time.monotonic() - began
    if fitted is not None and not fitted["used"]:
        run.warn(f"the labels are not calibrated: {fitted['why']}")
    statistics, name = label_statistics(labelled), short(config.judge.name)
    report = judge_report(
        [_outcome(prompt, pair) for prompt in labelled for pair in prompt.judged],
        name,
        pointwise=not seats,
        more={"fitted": fitted, "as_asked": _as_asked(labelled, seats) if fit else None},
    )
    statistics |= write_pairs(labelled, config, run, preferences)
    statistics |= write_answers(labelled, config, run)
    _check_labels(statistics, report, config)
    write_json(run.out / "statistics.json", statistics)
    write_label_card(config, fingerprint, {**report, **statistics}, run.out, completions, preferences)
    write_verdicts((_verdict_row(prompt, pair, name) for prompt in labelled for pair in prompt.judged), run.out)
    write_assessments(labelled, run)
    write_report([report], run, cost={"seconds": seconds, "asked": run.computed, "usage": usage})
    _warn(statistics, report, run)
    if not pointwise and config.judge.name not in catalogue.JUDGES:
        run.note(WIN_RATES)
    return _metrics(statistics, report)


def fill_labels(  # noqa: PLR0913 (the inputs of the stage, and the shard)
    config: LabelConfig,
    *,
    completions: Path,
    policy: Path | None = None,
    reward_model: Path | None = None,
    preferences: Path | None = None,
    calibration: Path | None = None,
    run: Run,
    share: Share,
) -> None:
    """Journal a shard of the raw labels of `label`; they do not depend on the calibration."""
    rows = _rows(completions, config)
    with closing(make_judge(config.judge, policy=policy, reward_model=reward_model, run=run)) as judge:
        RowJournal(run.rows, run.note).fill(_work(config, judge, rows, run), share)


def _say_references(rows: Sequence[dict[str, Any]], config: LabelConfig, run: Run) -> None:
    if config.include_reference and (lacking := sum(not row.get("reference") for row in rows)):
        run.warn(
            f"{lacking} of {len(rows)} prompts have no reference answer: their samples are only compared with each other"
        )


def _rows(completions: Path, config: LabelConfig) -> list[dict[str, Any]]:
    rows = read_table(completions / "train.parquet")
    if config.include_reference:
        rows = [with_reference(row) for row in rows]
    _check_candidates(rows, completions, config)
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
    """The journal id of a prompt: everything in config and row that its raw labels depend on."""
    who = judge_identity(config.judge, judge, config.seed)
    reference = [row["reference"]] if row.get("reference") else []
    count = len(row["completions"])
    every = not judge.pointwise and planned_pairs(count, 0, "", config.all_pairs_up_to) != planned_pairs(count, 0, "")
    more = ["all pairs"] if every else []  # more pairs than the ring of the default
    return row_id("label", who, row["id"], row["prompt"], row["completions"], row["ended"], *reference, *more)


def _labeller(
    config: LabelConfig, judge: Judge, rows: Sequence[dict[str, Any]], run: Run
) -> Callable[[list[int]], list[Any]]:
    """The function for the journal: raw labels of a batch of prompts, in one call of the judge."""

    def score(batch: list[int]) -> list[Any]:
        run.count_rows(len(batch))
        groups = [candidates_of(rows[index]) for index in batch]
        flat = [candidate for group in groups for candidate in group]
        found = iter(assess(judge, flat))
        return [packed_assessments([next(found) for _ in group]) for group in groups]

    def compare(batch: list[int]) -> list[Any]:
        run.count_rows(len(batch))
        groups = [candidates_of(rows[index]) for index in batch]
        plans = [
            planned_pairs(len(group), config.seed, rows[index]["id"], config.all_pairs_up_to)
            for index, group in zip(batch, groups, strict=True)
        ]
        flat = [(group[one], group[other]) for group, pairs in zip(groups, plans, strict=True) for one, other in pairs]
        verdicts = iter(judge.compare(flat))
        return [{"pairs": [[*pair, *packed(next(verdicts))] for pair in pairs]} for pairs in plans]

    return score if judge.pointwise else compare


def _labelled(
    config: LabelConfig, judge: Judge, row: dict[str, Any], result: dict[str, Any], fit: Calibration | None
) -> LabelledPrompt:
    candidates = candidates_of(row)
    found = unpacked_assessments(result) if judge.pointwise else []
    scores: list[float | None] = [each.score for each in found] or [None] * len(candidates)
    if judge.pointwise:
        raw = [
            (
                one,
                other,
                verdict_of_assessments(judge, (candidates[one], candidates[other]), (found[one], found[other])),
            )
            for one, other in all_pairs(len(candidates))
        ]
    else:
        raw = [
            (one, other, unpacked((candidates[one], candidates[other]), *verdict))
            for one, other, *verdict in result["pairs"]
        ]
    judged = [JudgedPair(one, other, calibrated(verdict, fit), verdict if fit else None) for one, other, verdict in raw]
    blank = {index for index, candidate in enumerate(candidates) if is_blank(candidate.text)}
    answers = [
        ("" if index in blank else candidate.text, candidate.ended) for index, candidate in enumerate(candidates)
    ]
    kept, dropped = kept_pairs(judged, answers, config.pairs_per_prompt, config.min_margin, blank)
    held_out = is_label_held_out(row["prompt"], config.heldout_fraction)
    flags = flags_of(judge, candidates)
    details = [dict(each.details) for each in found]
    return LabelledPrompt(row, held_out, scores, details, judged, kept, dropped, flags, found)


def _outcome(prompt: LabelledPrompt, pair: JudgedPair, as_asked: bool = False) -> Outcome:
    texts = prompt.row["completions"]
    verdict = pair.raw if as_asked and pair.raw else pair.verdict
    return outcome_of(verdict, prompt.row["id"], (texts[pair.first], texts[pair.second]))


def _as_asked(labelled: Sequence[LabelledPrompt], seats: bool) -> dict[str, Any]:
    """The uncalibrated judge's dependence on the order, if all other figures of the report use calibrated labels."""
    outcomes = [_outcome(prompt, pair, as_asked=True) for prompt in labelled for pair in prompt.judged]
    return {"first_position": first_position(outcomes, not seats), "flips": flips(outcomes if seats else [])}


def _verdict_row(prompt: LabelledPrompt, pair: JudgedPair, judge: str) -> dict[str, Any]:
    (given, swapped), masses = pair.verdict.orders, pair.verdict.masses
    raw_given, raw_swapped = pair.raw.orders if pair.raw else (None, None)
    return {
        "id": prompt.row["id"],
        "judge": judge,
        "first": pair.first,
        "second": pair.second,
        "probability": pair.verdict.probability,
        "given": given,
        "swapped": swapped,
        "raw_given": raw_given,
        "raw_swapped": raw_swapped,
        "mass_given": masses[0],
        "mass_swapped": masses[1],
        "reason": pair.verdict.reason,
        **said(pair.verdict),
    }


def _check_candidates(rows: Sequence[dict[str, Any]], path: Path, config: LabelConfig) -> None:
    if not rows:
        raise DataError("no completions to label", where=str(path), do="sample some, or set data.completions")
    if config.unpaired.by == "rank" and all(len(row["completions"]) < 2 for row in rows):
        raise DataError(
            "every prompt has one completion, and a pair needs two",
            where=str(path),
            do="set sample.n to 2 or more; to label single answers by limits of the score, set label.unpaired.by to score",
        )


def _check_labels(statistics: dict[str, Any], report: dict[str, Any], config: LabelConfig) -> None:
    by_score = config.unpaired.by == "score"
    if statistics["pairs"]["train"] or (by_score and any(statistics["unpaired"]["train"].values())):
        return
    reasons = (
        ", ".join(f"{count} {reason}" for reason, count in sorted(statistics["dropped"].items())) or "all held out"
    )
    or_label = ", and no answer with a label" if by_score else ""
    raise TrainingError(
        f"the judge {short(config.judge.name)!r} left no preference pair to train on{or_label} "
        f"(of {statistics['judged']} judged: {reasons})",
        where="label",
        do=report["conclusion"]["text"]
        if report["conclusion"]["level"] in POOR
        else "sample more prompts, set a larger sample.temperature or a smaller label.min_margin, or use another judge",
    )


def _warn(statistics: dict[str, Any], report: dict[str, Any], run: Run) -> None:
    if not statistics["pairs"]["train"]:
        run.warn(
            "no preference pairs to train on: only methods that learn from single answers can learn from these labels"
        )
    elif not statistics["pairs"]["heldout"]:
        run.warn("no held-out preference pairs: the reward model's accuracy cannot be measured; label more prompts")
    unlabelled = {reason: count for reason, count in statistics["abstentions"].items() if reason != IDENTICAL}
    if sum(unlabelled.values()) > 0.1 * statistics["judged"]:
        run.warn(
            f"the judge gave no label for {sum(unlabelled.values())} of {statistics['judged']} pairs: {unlabelled}"
        )
    longer = report["longer_wins"]
    if longer["low"] is not None and longer["low"] > 0.8:
        run.warn(f"the longer answer wins in {longer['rate']:.0%} of the pairs: the judge may reward only length")
    _warn_of_flags(statistics["flagged"], run)
    warn_of(report, run)
    _warn_of_one_class(statistics["unpaired"]["train"], run)


def _warn_of_one_class(labels: dict[str, int], run: Run) -> None:
    if sum(labels.values()) and not all(labels.values()):
        every, none = ("good", "bad") if labels["good"] else ("bad", "good")
        run.warn(f"all {labels[every]} labelled answers are {every} and none is {none}: check label.unpaired")


def _warn_of_flags(flagged: dict[str, Any], run: Run) -> None:
    if not flagged["answers"]["hits"]:
        return
    wins, marks = flagged["wins"], ", ".join(f"{name} {count}" for name, count in flagged["marks"].items())
    won = (
        f"they won {wins['hits']} of {wins['trials']} pairs against an answer without marks"
        if wins["trials"]
        else "none of their pairs was decided"
    )
    run.warn(
        f"{flagged['answers']['hits']} of {flagged['answers']['trials']} answers have marks that address the judge ({marks}); {won}: "
        "read flagged.json of this step; to drop such pairs, set judge.options.flagged to drop"
    )


def _metrics(statistics: dict[str, Any], report: dict[str, Any]) -> dict[str, float | None]:
    judged = statistics["judged"]
    labels, left_out = statistics["unpaired"]["train"], sum(statistics["unpaired"]["dropped"].values())
    mass, fitted = report["option_mass"], report["fitted"]
    return {
        "pairs/train": float(statistics["pairs"]["train"]),
        "pairs/heldout": float(statistics["pairs"]["heldout"]),
        "pairs/judged": float(judged),
        **_human(statistics),
        "win_rates/train": float(statistics["win_rates"]["train"]),
        "unpaired/good": float(labels["good"]),
        "unpaired/bad": float(labels["bad"]),
        "unpaired/dropped": float(left_out),
        "ties": statistics["ties"] / judged if judged else None,
        "abstentions": sum(statistics["abstentions"].values()) / judged if judged else None,
        "flip_rate": report["flips"]["rate"],
        "first_position_rate": report["first_position"]["rate"],
        "longer_wins_rate": report["longer_wins"]["rate"],
        "flagged_rate": statistics["flagged"]["answers"]["rate"],
        "flagged_wins_rate": statistics["flagged"]["wins"]["rate"],
        "soft_label_entropy": statistics["soft_label_entropy"],
        "margin_mean": statistics["margin"]["mean"],
        **({"judge/option_mass": mass["mean"], "judge/option_mass_p5": mass["p5"]} if mass else {}),
        **({"calibrated": float(fitted["used"])} if fitted else {}),
        **({DISAGREEMENT: statistics[DISAGREEMENT]["mean"]} if DISAGREEMENT in statistics else {}),
    }


def _human(statistics: dict[str, Any]) -> dict[str, float | None]:
    """Metrics of the pairs that people labelled; none if there are none."""
    agreement = statistics.get("human_agreement")
    if agreement is None:
        return {}
    return {
        "pairs/given": float(statistics["mixed"]["given"]),
        "pairs/in_both": float(statistics["mixed"]["both"]),
        "human_agreement": agreement["rate"],
        "human_kappa": agreement["kappa"],
    }
