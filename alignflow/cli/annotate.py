"""`alignflow annotate`: people label pairs on a local page; writes the labels to a file and reports how far people agree."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from alignflow.cli.stored import NAMES
from alignflow.cli.terminal import Console
from alignflow.data.agreement import agreement
from alignflow.data.annotation.answers import Session, check_annotator, export_rows
from alignflow.data.annotation.labels import Labels, labels_of_annotation, labels_of_file, labels_of_rows
from alignflow.data.annotation.pairs import (
    PAIRS,
    read_pairs,
    rows_of_artifact,
    rows_of_source,
    take_pairs,
    write_pairs_once,
)
from alignflow.data.errors import UserError
from alignflow.data.records import read_table
from alignflow.server.annotate.page import AnnotationServer
from alignflow.tasks.store.artifact_names import means_artifact
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.store.pins import using
from alignflow.tasks.store.store_root import default_root


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(annotate)


def annotate(  # noqa: PLR0913 (one argument per option of the command)
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIRECTORY", help="Directory for pairs and answers; with --report also a file of labels."
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            metavar="DATA",
            help=f"Completions, rankings or pairs: a file, a saved data set, a Hub id, or data in the store: {NAMES}.",
        ),
    ] = "",
    format_name: Annotated[str, typer.Option("--format", metavar="NAME", help="Format of the data.")] = "auto",
    annotator: Annotated[
        str,
        typer.Option(metavar="NAME", help="Name of the annotator. Each annotator sees the pairs in a different order."),
    ] = "me",
    max_pairs: Annotated[int | None, typer.Option(min=1, help="At most this many pairs, chosen by hash.")] = None,
    pairs_per_prompt: Annotated[int, typer.Option(min=1, help="Pairs per prompt, chosen by hash.")] = 1,
    overlap: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Share of the pairs that every annotator labels. Each other pair goes to one annotator."
        ),
    ] = 1.0,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0 picks a free one.")] = 0,
    export: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the labels to a .jsonl file and exit.")
    ] = None,
    report: Annotated[bool, typer.Option("--report", help="Show how far annotators agree and exit.")] = False,
    with_: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="LABELS",
            help="More labels to compare with: a file, or the key of a labelled data set.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Label pairs on a local page: blind, in random order, with the keyboard. The next call continues where you stopped."""
    console = Console()
    if report or as_json:
        show_report(directory, with_ or [], as_json, console)
        return
    if data:
        taken = take_pairs(_rows(data, format_name), max_pairs, pairs_per_prompt)
        write_pairs_once(directory, taken.pairs)
        for reason, count in taken.left_out.items():
            console.print(f"left out: {count} {reason}", style="dim", highlight=False)
    pairs = read_pairs(directory)
    if export is not None:
        _export(directory, export, console)
        return
    session = Session(directory, pairs, check_annotator(annotator), overlap)
    server = AnnotationServer(session, port)
    state = session.state()
    console.print(
        f"{state['done']} of {state['total']} pairs are labelled by {escape(annotator)}; the page is at",
        highlight=False,
    )
    print(server.url, flush=True)
    console.print(
        "Only this machine can reach it; anyone with the address can label. Ctrl-C ends it; every answer is kept.",
        style="dim",
    )
    try:
        server.serve_forever(poll_interval=0.2)
    except KeyboardInterrupt:
        state = session.state()
        console.print(f"{state['done']} of {state['total']} pairs are labelled", highlight=False)
    finally:
        server.server_close()
        session.close()


def _rows(data: str, format_name: str) -> list[dict[str, Any]]:
    if Path(data).exists() or not means_artifact(default_root(), data):
        return rows_of_source(data, format_name)
    store = ArtifactStore(for_reading=True)
    manifest = store.resolve(data, ("dataset",))
    with using(store, manifest.key):
        return rows_of_artifact(store.payload(manifest.ref()))


def _export(directory: Path, file: Path, console: Console) -> None:
    rows = export_rows(directory, read_pairs(directory))
    if not rows:
        raise UserError("no pair is labelled yet", where=str(directory), do="label some pairs first")
    part = file.with_name(f".{file.name}.part")
    file.parent.mkdir(parents=True, exist_ok=True)
    part.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    os.replace(part, file)
    votes = [vote for row in rows for vote in row["votes"]]
    ties = sum(vote["preference"] == "tie" for vote in votes)
    console.print(
        f"{len(rows)} pairs with {len(votes)} votes, {ties} of them ties: {escape(str(file))}",
        highlight=False,
        soft_wrap=True,
    )


def show_report(place: Path, others: list[str], as_json: bool, console: Console) -> None:
    """Print how far the labellers of a directory or file agree with each other and with other labels."""
    sources = [_labels(str(place)), *map(_labels, others)]
    labels: Labels = {}
    for found, left_out in sources:
        for name, own in found.items():
            labels[name if name not in labels else f"{name} ({len(labels) + 1})"] = own
        for reason, count in left_out.items():
            console.print(f"not labelled: {count} {escape(reason)}", style="dim") if not as_json else None
    figures = agreement(labels)
    if as_json:
        print(json.dumps(figures, indent=2))
        return
    table = Table("labellers", "common pairs", "agree", "95%", "Cohen's kappa", "95%")
    for two in figures["pairs"]:
        table.add_row(
            escape(" / ".join(two["labellers"])),
            str(two["items"]),
            f"{two['rate']:.1%}",
            f"{two['low']:.1%} to {two['high']:.1%}",
            shown(two["kappa"]),
            f"{shown(two['kappa_low'])} to {shown(two['kappa_high'])}" if two["kappa"] is not None else "",
        )
    for name, count in figures["labellers"].items():
        console.print(f"{escape(name)}: {count} labels", highlight=False)
    console.print(table if figures["pairs"] else "no two labellers labelled the same pair")
    if figures["items"]:
        between = (
            f" ({shown(figures['alpha_low'])} to {shown(figures['alpha_high'])})"
            if figures["alpha_low"] is not None
            else ""
        )
        console.print(
            f"Krippendorff's alpha over {figures['items']} pairs: {shown(figures['alpha'])}{between}", highlight=False
        )


def shown(figure: float | None) -> str:
    """A figure with two decimals, or a dash if it is undefined."""
    return "-" if figure is None else f"{figure:.2f}"


def _labels(place: str) -> tuple[Labels, dict[str, int]]:
    path = Path(place)
    if (path / PAIRS).is_file():
        return labels_of_annotation(path, read_pairs(path)), {}
    if path.exists():
        return labels_of_file(place)
    store = ArtifactStore(for_reading=True)
    manifest = store.resolve(place, ("dataset",))
    with using(store, manifest.key):
        payload = store.payload(manifest.ref()) / "preferences"
        tables = [table for table in (payload / "train.parquet", payload / "heldout.parquet") if table.is_file()]
        if not tables:
            raise UserError(
                f"{manifest.key[:24]} has no labelled pairs",
                where=place,
                do="name a step that labels (`alignflow list label` shows them), or a file of labels",
            )
        return labels_of_rows([row for table in tables for row in read_table(table)], manifest.key[:16])
