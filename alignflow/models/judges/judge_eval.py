"""The stage that measures a judge: asks it about pairs and answers with human labels, or reads its recorded replies."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from alignflow.data.configs.inputs import SourceConfig
from alignflow.data.configs.judging import JudgeEvalConfig
from alignflow.data.errors import RecipeError
from alignflow.data.judging.calibration import Calibration, fitted_calibration
from alignflow.data.judging.gold import GoldPair, GoldSet, read_gold
from alignflow.data.judging.outcomes import Outcome
from alignflow.data.judging.recorded import recorded_replies
from alignflow.data.judging.report import judge_report, report_metrics
from alignflow.data.judging.scores import score_agreement
from alignflow.data.judging.verdict_table import write_verdicts
from alignflow.data.own_module import short
from alignflow.data.records import row_id
from alignflow.data.run import Run, write_json
from alignflow.data.sources.reading import read_rows
from alignflow.models.generation.journal import RowJournal
from alignflow.models.judges.asking import judge_identity, outcome_of, packed, said, unpacked
from alignflow.models.judges.assessments import packed_assessments, unpacked_assessments
from alignflow.models.judges.base import (
    Assessment,
    Candidate,
    Judge,
    Verdict,
    assess,
    knows_seats,
    make_judge,
    verdict_of_assessments,
)
from alignflow.models.judges.injections import moved_by_injections
from alignflow.models.judges.label_report import CALIBRATION_FILE, warn_of, write_report

Pair = tuple[Candidate, Candidate]


def judge_eval(
    config: JudgeEvalConfig, *, policy: Path | None = None, reward_model: Path | None = None, run: Run
) -> dict[str, float | None]:
    """Measure a judge; writes judge_report.json, verdicts.parquet and calibration/, and judge_report.html in side/.

    Raises:
        DataError: no gold label, or no recorded reply, can be read.
    """
    if config.recorded is not None:
        return _recorded(config, config.recorded, run)
    if config.judge is None:
        raise RecipeError("no judge to measure", where="judge_eval.judge", do="set it, or set label.judge")
    gold = read_gold(config.data, config.max_rows)
    began = time.monotonic()
    with closing(make_judge(config.judge, policy=policy, reward_model=reward_model, run=run)) as judge:
        verdicts, scores = _asked(config, judge, gold, run)
        injections = _injections(config, judge, gold, run)
        usage = getattr(judge, "usage", None)
        pointwise, seats = judge.pointwise, knows_seats(judge)
    outcomes = [_outcome(verdict, pair) for verdict, pair in zip(verdicts, gold.pairs, strict=True)]
    fitted = fitted_calibration(outcomes, not seats, config.fit_fraction)
    more = {
        "data": _data(config, gold),
        "injections": injections,
        "scores": score_agreement(gold.answers, scores) if pointwise else None,
        "fitted": fitted,
    }
    report = judge_report(
        outcomes, short(config.judge.name), pointwise=not seats, family=config.family_of_judge, more=more
    )
    write_json(run.out / CALIBRATION_FILE, fitted)
    rows = _rows(outcomes, fitted, short(config.judge.name))
    write_verdicts(({**row, **said(verdict)} for row, verdict in zip(rows, verdicts, strict=True)), run.out)
    write_report([report], run, cost={"seconds": time.monotonic() - began, "asked": run.computed, "usage": usage})
    _say_dropped(gold, run)
    warn_of(report, run)
    return {**report_metrics(report), **_score_metrics(more["scores"]), "calibration/used": float(fitted["used"])}


def _recorded(config: JudgeEvalConfig, path: str, run: Run) -> dict[str, float | None]:
    """The reports of all judges whose replies a file has; metrics begin with the judge's name if there are several."""
    found = recorded_replies(read_rows(SourceConfig(path=path)), path)
    reports, rows = [], []
    metrics: dict[str, float | None] = {}
    dropped = next(iter(found.values())).dropped  # dropped rows of the whole file
    if dropped:
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(dropped.items()))
        run.warn(f"{sum(dropped.values())} rows of recorded replies were dropped: {reasons}")
    for name, replies in found.items():
        data = {
            "source": Path(path).name,
            "replies": replies.read,
            "parsed_from_text": replies.parsed,
            "dropped": dict(sorted(replies.dropped.items())),
        }
        report = judge_report(replies.outcomes, name, family=config.family_of_judge, more={"data": data})
        reports.append(report)
        rows += _rows(replies.outcomes, None, name)
        start = f"{name}/" if len(found) > 1 else ""
        metrics |= {f"{start}{metric}": value for metric, value in report_metrics(report).items()}
        if len(found) == 1:
            warn_of(report, run)
    write_verdicts(rows, run.out)
    write_report(reports, run)
    return metrics


def _asked(config: JudgeEvalConfig, judge: Judge, gold: GoldSet, run: Run) -> tuple[list[Verdict], list[float | None]]:
    """A verdict on each pair, and scores of the answers with human scores, from a judge that gives scores."""
    pairs = [_candidates(pair) for pair in gold.pairs]
    if not judge.pointwise:
        return _compared(config, judge, pairs, run, "pairs"), []
    single = [Candidate(prompt, text) for _, prompt, text, _ in gold.answers]
    assessed = _assessed(config, judge, [*itertools.chain.from_iterable(pairs), *single], run, "answers")
    return _verdicts(judge, pairs, assessed), [each.score for each in assessed[2 * len(pairs) :]]


def _compared(config: JudgeEvalConfig, judge: Judge, pairs: Sequence[Pair], run: Run, unit: str) -> list[Verdict]:
    """A verdict on each pair; verdicts in the journal are not asked again."""
    if judge.pointwise:
        return _verdicts(judge, pairs, _assessed(config, judge, list(itertools.chain.from_iterable(pairs)), run, unit))
    who = _identity(config, judge)
    ids = [row_id("judge_eval", who, first.prompt, [first.text, second.text]) for first, second in pairs]
    results = RowJournal(run.rows, run.note).compute(
        ids, config.batch_size, _comparer(judge, pairs, run), _progress(run, unit)
    )
    return [unpacked(pair, *result) for pair, result in zip(pairs, results, strict=True)]


def _assessed(
    config: JudgeEvalConfig, judge: Judge, answers: Sequence[Candidate], run: Run, unit: str
) -> list[Assessment]:
    """A pointwise judge's assessment of each answer; assessments in the journal are not asked again."""
    who = _identity(config, judge)
    ids = [row_id("judge_eval", who, answer.prompt, answer.text) for answer in answers]
    results = RowJournal(run.rows, run.note).compute(
        ids, config.batch_size, _scorer(judge, answers, run), _progress(run, unit)
    )
    return [unpacked_assessments(result)[0] for result in results]


def _verdicts(judge: Judge, pairs: Sequence[Pair], assessed: Sequence[Assessment]) -> list[Verdict]:
    return [
        verdict_of_assessments(judge, pair, (assessed[2 * place], assessed[2 * place + 1]))
        for place, pair in enumerate(pairs)
    ]


def _identity(config: JudgeEvalConfig, judge: Judge) -> dict[str, Any]:
    assert config.judge is not None
    return judge_identity(config.judge, judge, config.seed)


def _comparer(judge: Judge, pairs: Sequence[Pair], run: Run) -> Callable[[list[int]], list[Any]]:
    def compare(batch: list[int]) -> list[Any]:
        run.count_rows(len(batch))
        return [packed(verdict) for verdict in judge.compare([pairs[place] for place in batch])]

    return compare


def _scorer(judge: Judge, answers: Sequence[Candidate], run: Run) -> Callable[[list[int]], list[Any]]:
    def score(batch: list[int]) -> list[Any]:
        run.count_rows(len(batch))
        return [packed_assessments([found]) for found in assess(judge, [answers[place] for place in batch])]

    return score


def _progress(run: Run, unit: str) -> Callable[[int, int], None]:
    return lambda done, total: run.progress(done, total, unit)


def _injections(config: JudgeEvalConfig, judge: Judge, gold: GoldSet, run: Run) -> dict[str, Any] | None:
    """How far injections move the judge, on a few pairs; None if that is not asked for."""
    pairs = [_candidates(pair) for pair in sorted(gold.pairs, key=lambda pair: pair.row)[: config.injections]]
    if not pairs:
        return None
    unit = (
        "answers, with attempts to talk to the judge"
        if judge.pointwise
        else "pairs, with attempts to talk to the judge"
    )
    return moved_by_injections(judge, pairs, lambda attacked: _compared(config, judge, attacked, run, unit))


def _candidates(pair: GoldPair) -> Pair:
    return Candidate(pair.prompt, pair.answers[0]), Candidate(pair.prompt, pair.answers[1])


def _outcome(verdict: Verdict, pair: GoldPair) -> Outcome:
    return outcome_of(verdict, pair.row, pair.answers, gold=pair.gold, families=pair.families)


def _rows(outcomes: Sequence[Outcome], fitted: Mapping[str, Any] | None, judge: str) -> list[dict[str, Any]]:
    """Rows of the table of verdicts; if a fit is used, with the calibrated values next to the judge's."""
    fit = Calibration(fitted["slope"], fitted["bias"]) if fitted and fitted["used"] else None
    rows = []
    for outcome in outcomes:
        shown = fit.of(outcome) if fit else outcome
        raw = outcome.orders if fit else (None, None)
        rows.append(
            {
                "id": outcome.row,
                "judge": judge,
                "probability": shown.probability,
                "given": shown.orders[0],
                "swapped": shown.orders[1],
                "raw_given": raw[0],
                "raw_swapped": raw[1],
                "mass_given": outcome.masses[0],
                "mass_swapped": outcome.masses[1],
                "gold": outcome.gold,
                "reason": outcome.reason,
            }
        )
    return rows


def _data(config: JudgeEvalConfig, gold: GoldSet) -> dict[str, Any]:
    return {
        "source": ", ".join(Path(source.path).name for source in config.data),
        "rows": gold.read,
        "pairs": len(gold.pairs),
        "answers": len(gold.answers),
        "dropped": dict(sorted(gold.dropped.items())),
    }


def _say_dropped(gold: GoldSet, run: Run) -> None:
    if gold.dropped:
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(gold.dropped.items()))
        run.warn(f"{sum(gold.dropped.values())} of {gold.read} gold rows were dropped: {reasons}")


def _score_metrics(scores: Mapping[str, Any] | None) -> dict[str, float | None]:
    if scores is None:
        return {}
    return {name: scores[name]["value"] for name in ("spearman", "kendall")}
