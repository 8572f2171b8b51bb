"""The judge report for people: one page that needs nothing from outside, rows for tables, Markdown for the server's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from alignflow.data.printable import printable
from alignflow.data.report.markdown import escaped, table
from alignflow.data.report.plots import calibration_plot, histogram_plot, interval_plot

NOT_MEASURED = "–"
RATES = (
    ("agreement with people (ties of the judge count one half)", ("agreement", "accuracy")),
    ("agreement where the judge decided", ("agreement", "accuracy_decided")),
    ("agreement, first order alone", ("agreement", "orders", "given")),
    ("agreement, seats swapped alone", ("agreement", "orders", "swapped")),
    ("right in both orders", ("agreement", "orders", "both_orders")),
    ("same label as people, ties included", ("agreement", "three_way")),
    ("answer in the first seat wins", ("first_position",)),
    ("preference flips when seats are swapped", ("flips",)),
    ("answer in the first seat wins, before calibration", ("as_asked", "first_position")),
    ("preference flips, before calibration", ("as_asked", "flips")),
    ("ties", ("ties",)),
    ("longer answer wins", ("longer_wins",)),
    ("longer answer wins with people", ("length_effect", "people_longer")),
    ("longer answer wins where people see a tie", ("length_effect", "at_gold_ties")),
    ("no label", ("abstentions",)),
    ("own family's answer wins", ("self_preference", "judge")),
    ("own family's answer wins with people", ("self_preference", "people")),
)
"""Shares of the report: what they are called, and where they stand."""
VALUES = (
    ("Cohen's kappa", ("agreement", "kappa")),
    ("at equal quality, the answer that is twice as long wins", ("length_effect", "twice_as_long")),
    ("own family preferred beyond people", ("self_preference", "excess")),
    ("expected calibration error", ("calibration", "ece")),
    ("Brier score", ("calibration", "brier")),
    ("log loss, nats", ("calibration", "log_loss")),
    ("Spearman correlation with people's scores", ("scores", "spearman")),
    ("Kendall correlation with people's scores", ("scores", "kendall")),
)
DRAWN = frozenset(name for name, _ in RATES if not name.startswith(("no label", "ties")))


def judge_rows(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """One row for each figure that was measured: figure, value, from, to, of."""
    rows = []
    for name, place in RATES:
        found = _at(report, place)
        if found and found["trials"]:
            rows.append(_row(name, found["rate"], found, found["trials"]))
    for name, place in VALUES:
        found = _at(report, place)
        if found and found["value"] is not None:
            rows.append(_row(name, found["value"], found, found["count"]))
    if report["entropy"] is not None:
        rows.append(_row("label entropy, bits", report["entropy"], {}, report["labelled"]))
    if mass := report["option_mass"]:
        rows.append(_row("probability on the judge's options", mass["mean"], {}, mass["count"]))
    return rows


def judge_markdown(report: Mapping[str, Any]) -> str:
    """The report as Markdown: the verdict, what else to know, the figures."""
    found = report["conclusion"]
    header = ["figure", "value", "from", "to", "of"]
    parts = [
        f"## Judge {escaped(report['judge'])}",
        f"**{escaped(found['text'])}**",
        "\n".join(f"- {escaped(note)}" for note in [*found["notes"], *fit_lines(report)]),
        table(header, [[escaped(row[name]) for name in header] for row in judge_rows(report)]),
    ]
    return "\n\n".join(part for part in parts if part)


def fit_lines(report: Mapping[str, Any]) -> list[str]:
    """What became of the calibration on human labels, in a sentence; none where nothing was tried."""
    fitted = report.get("fitted")
    if not fitted:
        return []
    lines = [f"Calibration on {fitted['fitted_on']} human labels: {fitted['why']}."]
    if fitted["used"] and fitted.get("before"):
        before, after = fitted["before"], fitted["after"]
        lines.append(
            f"Of {fitted['measured_on']} other pairs it makes {after['decided']} labels ({after['decided_right']} right) in place of "
            f"{before['decided']} ({before['decided_right']} right)."
        )
    return lines


def judge_plots(report: Mapping[str, Any]) -> dict[str, str]:
    """Data URIs of the plots of a report, by title; those without data are left out."""
    found = {}
    rates = {
        name: (share["rate"], share["low"], share["high"])
        for name, place in RATES
        if name in DRAWN and (share := _at(report, place)) and share["trials"]
    }
    if rates:
        found["shares, with 95% intervals"] = interval_plot(
            "Shares, with 95% intervals", rates, "share of pairs or questions"
        )
    if report["calibration"]:
        found["calibration curve"] = calibration_plot(report["calibration"]["curve"])
    if report["probability"]:
        found["labels"] = histogram_plot("P(first is better), all labels", report["probability"], "P(first is better)")
    return found


def judge_page(reports: Sequence[Mapping[str, Any]], cost: Mapping[str, Any]) -> str:
    """A self-contained HTML page: text of judges and data is escaped, and nothing is loaded from anywhere."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, finalize=_shown
    )
    return environment.get_template("judge_report.html.j2").render(
        reports=[(report, judge_rows(report), judge_plots(report), fit_lines(report)) for report in reports],
        cost={name: value for name, value in cost.items() if value is not None},
    )


def _at(report: Mapping[str, Any], place: Sequence[str]) -> Any:
    found: Any = report
    for name in place:
        found = found.get(name) if found else None
    return found


def _row(name: str, value: float, ends: Mapping[str, Any], count: int) -> dict[str, str]:
    low, high = ends.get("low"), ends.get("high")
    return {"figure": name, "value": f"{value:.3f}", "from": _figure(low), "to": _figure(high), "of": str(count)}


def _figure(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{value:.3f}"


def _shown(value: Any) -> Any:
    """A text cannot turn the reading direction of the page."""
    return type(value)(printable(value)) if isinstance(value, str) else value
