"""Takes the pictures of docs/pictures.md: the report and the dashboard in Chromium, and `alignflow runs` as SVG.

`python docs/make_pictures.py --store DIRECTORY` takes them from a store. Where the store has no run yet, the runs of the pictures are made
there first, which takes some minutes. Chromium must be installed, and the pictures show the path of the store.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from rich.console import Console

from alignflow.cli.runs import tight_lines, wide_table
from alignflow.tasks.store.artifact_names import named
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.store.dashboard import write_dashboard
from alignflow.tasks.store.folded_runs import ShownRun, folded
from alignflow.tasks.store.run_rows import run_rows

IMAGES = Path(__file__).parent / "images"
RECIPE = "recipes/tiny.yaml"
RUNS: tuple[tuple[tuple[str, ...], int], ...] = (
    ((), 0),
    (("--set", "align.options.beta=0.3"), 0),
    (("--set", "align.method=ipo"), 0),
    (("--set", "gates=[{stage: reward, metric: eval_accuracy, minimum: 0.9, action: stop}]"), 4),
    ((), 0),
    ((), 0),
)
"""What is run for the pictures: the arguments after the recipe, and the exit status."""
LARGEST = 150_000
"""Bytes of a picture."""
COLOURS = 128
WIDE_COLUMNS, NARROW_COLUMNS = 178, 60


class Look(NamedTuple):
    """A way to look at a page: the end of the picture's name, width and height in pixels, and the colour scheme."""

    name: str
    width: int
    height: int
    scheme: str


PARTS = {"report-lineage": ".lineage", "report-sample": ".sample"}
"""Picture of a part of the report -> the first element that it shows."""
LOOKS = (Look("", 1280, 1500, "light"), Look("-narrow", 390, 1400, "light"), Look("-dark", 1280, 1000, "dark"))


def make_runs(store: Path) -> None:
    """Make the runs of the pictures in a store."""
    environment = {**os.environ, "ALIGNFLOW_HOME": str(store)}
    for arguments, status in RUNS:
        command = [sys.executable, "-m", "alignflow", "run", RECIPE, *arguments]
        done = subprocess.run(command, env=environment, cwd=IMAGES.parents[1], capture_output=True, text=True)
        if done.returncode != status:
            sys.exit(
                f"{' '.join(command)} ended with {done.returncode}, expected {status}:\n{done.stdout}{done.stderr}"
            )


def take_pictures(browser: Any, page: Path, name: str) -> None:
    """Take the pictures of a page as each of LOOKS."""
    for look in LOOKS:
        size = {"width": look.width, "height": look.height}
        context = browser.new_context(viewport=size, color_scheme=look.scheme)
        shown = context.new_page()
        shown.goto(page.as_uri())
        height = min(look.height, shown.evaluate("Math.ceil(document.body.getBoundingClientRect().bottom) + 32"))
        taken = shown.screenshot(clip={"x": 0, "y": 0, "width": look.width, "height": height}, full_page=True)
        write_picture(taken, IMAGES / f"{name}{look.name}.png")
        context.close()


def take_parts(browser: Any, page: Path) -> None:
    """Take a picture of each of PARTS."""
    context = browser.new_context(viewport={"width": LOOKS[0].width, "height": LOOKS[0].height})
    shown = context.new_page()
    shown.goto(page.as_uri())
    for name, selector in PARTS.items():
        write_picture(shown.locator(selector).first.screenshot(), IMAGES / f"{name}.png")
    context.close()


def write_picture(taken: bytes, file: Path) -> None:
    """Write a screenshot in few colours; ends the script where it is too large for the docs."""
    picture = Image.open(io.BytesIO(taken)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    picture.save(file, optimize=True)
    if file.stat().st_size > LARGEST:
        sys.exit(f"{file.name} has {file.stat().st_size:,} bytes, more than {LARGEST:,}: make it lower in LOOKS")


def write_terminal(lines: Sequence[ShownRun], columns: int, file: Path) -> None:
    """Write the table of `alignflow runs` in a terminal of this width as SVG, without the fonts that it would load from elsewhere."""
    console = Console(record=True, width=columns, file=io.StringIO(), force_terminal=True)
    for part in [wide_table(lines)] if columns >= WIDE_COLUMNS else tight_lines(lines, columns):
        console.print(part)
    drawn = console.export_svg(title="alignflow runs", unique_id="runs")
    file.write_text(re.sub(r"@font-face\s*\{[^}]*\}\s*", "", drawn), encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    """Take all pictures; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--store", type=Path, required=True, help="the store whose runs are shown; made where it is not there"
    )
    root = parser.parse_args(arguments).store.absolute()
    program = shutil.which("chromium")
    if program is None:
        sys.exit("chromium is not installed")
    if not (root / "runs").is_dir():
        make_runs(root)
    store = ArtifactStore(root)
    report = named(store, "last")
    if report is None or report.stage != "report":
        sys.exit(f"the newest run in {root} has no report")
    lines = folded(run_rows(store))
    write_terminal(lines, WIDE_COLUMNS, IMAGES / "runs.svg")
    write_terminal(lines, NARROW_COLUMNS, IMAGES / "runs-narrow.svg")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=program, headless=True, args=options)
        page = store.directory(report.key) / "side" / "report.html"
        take_pictures(browser, page, "report")
        take_parts(browser, page)
        take_pictures(browser, write_dashboard(store), "dashboard")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
