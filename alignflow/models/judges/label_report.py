"""Writes a judge report: JSON without times in the payload, a page and the cost in side/, a warning if labels are poor."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alignflow.data.judging.calibration import Calibration
from alignflow.data.judging.conclusion import POOR
from alignflow.data.report.judge_page import judge_page
from alignflow.data.run import Run, write_json

REPORT_FILE, PAGE, COST_FILE = "judge_report.json", "judge_report.html", "judge_cost.json"
CALIBRATION_FILE = "calibration/calibration.json"


def write_report(reports: Sequence[Mapping[str, Any]], run: Run, cost: Mapping[str, Any] | None = None) -> None:
    """Write the reports of one judge or several; the cost differs between runs, so it is not in the payload."""
    write_json(run.out / REPORT_FILE, {"reports": list(reports)})
    known = {**(cost or {}), "tokens": run.tokens or None}
    write_json(run.side / COST_FILE, known)
    (run.side / PAGE).write_text(judge_page(reports, known), encoding="utf-8")


def warn_of(report: Mapping[str, Any], run: Run) -> None:
    """Warn if a judge's labels are near chance level, or if it gives none."""
    found = report["conclusion"]
    if found["level"] in POOR:
        run.warn(found["text"])


def read_calibration(directory: Path | None) -> dict[str, Any] | None:
    """The fit of `judge_eval`, from its part `calibration`; None without one."""
    if directory is None:
        return None
    found: dict[str, Any] = json.loads((directory / Path(CALIBRATION_FILE).name).read_text(encoding="utf-8"))
    return found


def fit_of(fitted: Mapping[str, Any] | None) -> Calibration | None:
    """The fit if it is used; otherwise None."""
    return Calibration(fitted["slope"], fitted["bias"]) if fitted and fitted["used"] else None
