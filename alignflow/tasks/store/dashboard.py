"""Writes the dashboard of a store and the list of its runs for Prefect's page."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from alignflow.data.errors import AlignflowError, UserError
from alignflow.data.report.markdown import escaped, table
from alignflow.data.step_names import base_of, matching
from alignflow.tasks.store.folded_runs import ShownRun, folded
from alignflow.tasks.store.integrity import write_synced
from alignflow.tasks.store.run_cells import (
    DASH,
    formatted,
    name_text,
    seconds_text,
    settings_text,
    size_text,
    win_rate_text,
)
from alignflow.tasks.store.run_rows import RunRow, run_rows

if TYPE_CHECKING:
    from alignflow.tasks.store.artifact_store import ArtifactStore

FILE = "dashboard.html"
"""Name of the page in the store."""
ARTIFACT_KEY = "runs-of-the-store"
"""Key of the list of runs on Prefect's page."""
RUNS_OF_THE_STORE = "all runs of the store, including those without a server"
MOST_LISTED = 50
COLUMNS = {
    "run": "name",
    "date (UTC)": "date",
    "state": "state",
    "method": "method",
    "changed settings": "settings",
    "win rate": "win_rate",
    "KL": "kl",
    "reward acc.": "reward_accuracy",
    "seconds": "seconds",
}
"""Headings of the list on Prefect's page, and the cells below them."""


def shown_runs(store: ArtifactStore) -> list[ShownRun]:
    """The lines of the page and of the list, so that a caller who writes both reads the store's runs once."""
    return folded(run_rows(store))


def write_dashboard(store: ArtifactStore, path: Path | None = None, lines: Sequence[ShownRun] | None = None) -> Path:
    """Write the page to a file, by default the one in the store; returns the file. Without `lines` it reads the store's runs.

    Raises:
        UserError: the file cannot be written.
    """
    file = (path or store.root / FILE).absolute()
    try:
        write_synced(file, dashboard(store, file.parent, lines))
    except OSError as error:
        raise UserError(
            f"the page cannot be written ({error.strerror or error})",
            where=str(file),
            do="pass a file in an existing folder that you may write",
        ) from None
    return file


def renew_dashboard(store: ArtifactStore) -> Path | None:
    """Write the page of the store anew; returns the file. A store that has no such page gets none: None.

    Raises:
        UserError: the file cannot be written.
    """
    return write_dashboard(store) if (store.root / FILE).is_file() else None


def dashboard(store: ArtifactStore, folder: Path, lines: Sequence[ShownRun] | None = None) -> str:
    """The page as HTML, with links that work from a file in `folder`. Without `lines` it reads the store's runs."""
    from alignflow.data.report.dashboard import (
        dashboard_page,
    )  # imports the template engine, which a listing does not need

    lines = shown_runs(store) if lines is None else lines
    cells = [_cells(line, store, folder) for line in lines]
    written = datetime.now(UTC).isoformat(sep=" ", timespec="minutes")[:16]
    return dashboard_page(
        str(store.root), written, cells, _newest(lines, cells, store), sum(line.cached for line in lines)
    )


def runs_markdown(store: ArtifactStore, lines: Sequence[ShownRun] | None = None) -> str:
    """The newest runs as Markdown for Prefect's page, including those without a server. Without `lines` it reads the store's runs."""
    lines = shown_runs(store) if lines is None else lines
    cells = [_cells(line, store, store.root) for line in lines[:MOST_LISTED]]
    rows = [[escaped(cell[name] or DASH) for name in COLUMNS.values()] for cell in cells]
    left = len(lines) - len(cells)
    return "\n\n".join(
        [
            "# Runs of the store",
            f"All runs, including those without this server. Store `{_code(store.root)}`.",
            f"The dashboard, with a leaderboard and links to reports, is the file `{_code(store.root / FILE)}`: open it in a browser on that machine.",
            table(list(COLUMNS), rows) if rows else "There are no runs yet.",
            *([f"{left} older runs are not listed here: `alignflow runs` shows them."] if left > 0 else []),
        ]
    )


def _code(path: Path) -> str:
    return str(path).replace("`", "'").replace("\n", " ")


def _cells(line: ShownRun, store: ArtifactStore, folder: Path) -> dict[str, Any]:
    row = line.row
    return {
        "recipe": row.name or DASH,
        "name": name_text(row.name, line.cached),
        "date": row.date[:16].replace("T", " "),
        "state": row.state,
        "method": row.method or DASH,
        "settings": settings_text(row.settings, row.smoke),
        "win_rate": win_rate_text(row.win_rate, row.win_rate_low, row.win_rate_high),
        "kl": formatted(row.kl),
        "reward_accuracy": formatted(row.reward_accuracy),
        "seconds": seconds_text(row.seconds),
        "size": DASH if row.size is None else size_text(row.size),
        "error": row.error or "",
        "report": _link(_report_of(row, store), store.root, folder),
        "judge": row.judge or "",
        "smoke": row.smoke,
        "evaluated": next((row.steps[name] for name in reversed(matching(row.steps, "evaluate"))), ""),
        "rate": row.win_rate,
        "low": row.win_rate_low,
        "high": row.win_rate_high,
    }


def _report_of(row: RunRow, store: ArtifactStore) -> Path | None:
    """The report's page of a run, or None if it has none or it is no longer in the store."""
    key = row.steps.get("report")
    page = store.directory(key) / "side" / "report.html" if key else None
    return page if page and page.is_file() else None


def _link(page: Path | None, root: Path, folder: Path) -> str:
    """The address of a page as seen from a file in `folder`: relative inside the store, so that the store can move, and absolute elsewhere."""
    if page is None:
        return ""
    if folder.resolve().is_relative_to(root.resolve()):
        return quote(os.path.relpath(page.resolve(), folder.resolve()))
    return page.resolve().as_uri()


def _newest(lines: Sequence[ShownRun], cells: Sequence[dict[str, Any]], store: ArtifactStore) -> dict[str, Any] | None:
    """The newest run with a report that is not a --smoke run, and the report's headline; None if there is none."""
    for line, cell in zip(lines, cells, strict=True):
        if cell["report"] and not cell["smoke"]:
            found, problem = [], ""
            try:
                found = list(_headline(line.row, store))
            except AlignflowError as error:
                problem = f"The headline of this report cannot be read: {error.what}."
            return {**cell, "headline": found, "problem": problem}
    return None


def _headline(row: RunRow, store: ArtifactStore) -> Iterator[str]:
    from alignflow.data.report.body import FinishedStep
    from alignflow.data.report.headline import headline

    last = {
        base_of(name): FinishedStep(name, store.directory(key) / "payload")
        for name, key in row.steps.items()
        if store.directory(key).is_dir()
    }
    yield from headline(last, last["evaluate"].statistics if "evaluate" in last else None)
